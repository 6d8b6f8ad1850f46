//! The host's environment. The functions are documented in `native.rs`.

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
