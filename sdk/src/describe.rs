//! A plugin's description of itself. The methods that declare requests and metrics are with their
//! capabilities.

use crate::bindings::exports::keepgate::plugin::guest;
use crate::capability;

/// A plugin's description, which the host reads when it loads the plugin.
#[derive(Clone, Debug)]
pub struct Description(pub(crate) guest::Description);

impl Description {
    /// A plugin with this name and version, mounted at `/name` unless the operator configures another path.
    pub fn new(name: &str, version: &str) -> Self {
        Self(capability::described(name, version))
    }

    /// A summary for operators, on one line.
    #[must_use]
    pub fn summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.0.summary);
        self
    }

    /// The path at which it is mounted unless the operator configures another one. It starts with `/`.
    #[must_use]
    pub fn default_mount(mut self, path: &str) -> Self {
        path.clone_into(&mut self.0.default_mount);
        self
    }
}
