//! The fields of case files. If you add a field, describe it in this crate's README and let the runner or a
//! comparison use it. An unknown field is rejected with its line.

mod content;
mod number;
mod read;
mod rules;
mod server;
mod spread;
mod step;
mod surface;
mod values;
mod words;
mod world;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use crate::double::{Member, UpstreamExchange};
pub use content::Content;
pub(crate) use content::random;
pub use number::Number;
pub use read::{Broken, CaseFile, read};
pub use rules::{
    After, BytePart, CounterRule, Expect, GaugeRule, HeaderRule, JobRule, Kept, Rule, SeriesRule,
};
pub use server::{Disk, ServerNeeds};
pub use spread::Single;
pub(crate) use spread::spread;
pub use step::{Leaves, Step};
pub use surface::{CertificateRules, Given, Layout, StartRules, Surface};
pub use values::Values;
pub use words::{Clock, FromShort, Json, Many, Pattern, RequestLine, Short, Span};
pub use world::{Failing, Fault, Limits, Operation, Policy, StoreWorld, User, World};

/// One promise of a plugin or a server: the initial state, the requests, and what they must result in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The name, unique within the file: words joined by `-`.
    pub name: toml::Spanned<String>,
    /// The promise: where it is made, and what it is for.
    pub why: Option<String>,
    /// The initial state, merged into the file's.
    #[serde(default)]
    pub world: World,
    /// What a server must be started with.
    #[serde(default)]
    pub server: ServerNeeds,
    /// Runs the case once for each of these values, which are placeholders in it.
    #[serde(default)]
    pub each: BTreeMap<String, Each>,
    /// The folder of the case's repository on a server. If there are several, the case runs once for each. An
    /// empty name is the data folder itself and requires a server of its own.
    #[serde(default = "unique_folder")]
    pub at: Vec<String>,
    /// What requests set up before the first step, by names from the surface's `given`.
    #[serde(default)]
    pub given: Vec<String>,
    /// A pattern for the message with which the settings are rejected or the server refuses to start. Such a
    /// case has no steps.
    pub refuses: Option<Pattern>,
    /// What may happen without being expected.
    #[serde(default)]
    pub allow: Vec<Allow>,
    /// The steps, in order. The first that fails ends the case.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// The expected final state. Nothing else may have changed.
    #[serde(default)]
    pub after: After,
}

fn unique_folder() -> Vec<String> {
    vec!["{unique}".to_owned()]
}

/// One value, available as `{each}`, or several named ones.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Each {
    /// A number for `{each}`.
    Number(u64),
    /// A text for `{each}`.
    Text(String),
    /// Several values: `{NAME}` for each name.
    Several(BTreeMap<String, Scalar>),
}

/// A number, or a text that may contain placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A number.
    Number(u64),
    /// A text, with placeholders that are still to be filled in.
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// What a case does not check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Changes of blobs.
    Blobs,
    /// Jobs that were started.
    Jobs,
    /// Warnings and errors in the log.
    Log,
    /// Faults that never occurred.
    Faults,
    /// Calls for capabilities that the world does not grant.
    Calls,
}
