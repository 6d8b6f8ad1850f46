//! What a plugin says of itself. What it wants of a capability, and its metrics, are named by methods that are
//! with that capability.

use crate::bindings::exports::keepgate::plugin::guest;
use crate::capability;

/// What a plugin says of itself at load.
#[derive(Clone, Debug)]
pub struct Description(pub(crate) guest::Description);

impl Description {
    /// A plugin by name and version, mounted at `/name` unless the operator says otherwise.
    pub fn new(name: &str, version: &str) -> Self {
        Self(capability::described(name, version))
    }

    /// One line for operators.
    #[must_use]
    pub fn summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.0.summary);
        self
    }

    /// Where it is mounted unless the operator says otherwise; begins with `/`.
    #[must_use]
    pub fn default_mount(mut self, path: &str) -> Self {
        path.clone_into(&mut self.0.default_mount);
        self
    }
}
