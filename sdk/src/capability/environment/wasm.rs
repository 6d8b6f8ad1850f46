//! The host's own. What each function does is documented with its native double.

#![allow(missing_docs, reason = "the documentation is made of the native ones")]

use crate::bindings::keepgate::plugin::environment as contract;
pub use contract::{now, random, settings};

pub(super) use contract::log as log_fields;

pub fn count(metric: &str, labels: &[&str], by: u64) {
    contract::count(metric, &owned(labels), by);
}

pub fn set(metric: &str, labels: &[&str], value: f64) {
    contract::set(metric, &owned(labels), value);
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}
