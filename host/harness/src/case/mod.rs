//! The form of case files, field by field. Add a field here and describe it in this crate's README; the
//! runner or a comparison then looks at it. An unknown name is an error with its line.

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

pub use crate::double::Member;
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

/// One promise of a plugin or a server: what is there before, what is asked, and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique within the file: words joined by `-`.
    pub name: toml::Spanned<String>,
    /// Where the promise is made, and to what end.
    pub why: Option<String>,
    /// What is there before; laid over the file's own.
    #[serde(default)]
    pub world: World,
    /// What a server must be started with.
    #[serde(default)]
    pub server: ServerNeeds,
    /// The case is played for each of these, with its values as placeholders.
    #[serde(default)]
    pub each: BTreeMap<String, Each>,
    /// The folder of the case's repository on a server. If there are several, the case is played for
    /// each. An empty one is the data folder itself, and takes a server of its own.
    #[serde(default = "unique_folder")]
    pub at: Vec<String>,
    /// What is made by requests first, as the surface's `given` says.
    #[serde(default)]
    pub given: Vec<String>,
    /// The settings must be refused, or the server must not start: a pattern of the message. There are no
    /// steps then.
    pub refuses: Option<Pattern>,
    /// What may happen without being expected.
    #[serde(default)]
    pub allow: Vec<Allow>,
    /// In order. The first that fails ends the case.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// What there is in the end; nothing else may have changed.
    #[serde(default)]
    pub after: After,
}

fn unique_folder() -> Vec<String> {
    vec!["{unique}".to_owned()]
}

/// One value, which is `{each}` then, or several by their names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Each {
    /// `{each}`.
    Number(u64),
    /// `{each}`.
    Text(String),
    /// `{NAME}` for each name.
    Several(BTreeMap<String, Scalar>),
}

/// A number, or a text which may hold placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// As it is.
    Number(u64),
    /// To be filled in.
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

/// What a case does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// Changed blobs.
    Blobs,
    /// Jobs.
    Jobs,
    /// Warnings and errors in the log.
    Log,
    /// Faults that did not happen.
    Faults,
    /// Calls to the host for what the world does not grant.
    Calls,
}
