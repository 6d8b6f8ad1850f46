//! Mounts as the HTTP server sees them: [`Handler`] for [`Mount`].

use futures_util::future::BoxFuture;
use keepgate_core::{CallError, Handler, RefusalForm, Reply, Request};

use crate::Mount;

impl Handler for Mount {
    fn path(&self) -> &str {
        Self::path(self)
    }

    fn plugin(&self) -> &str {
        Self::plugin(self)
    }

    fn digest(&self) -> Option<&str> {
        self.serving().ok().map(|plugin| plugin.digest.as_str())
    }

    fn refusal_form(&self) -> Option<&RefusalForm> {
        Self::refusal_form(self).map(|form| &**form)
    }

    fn may_log(&self, bytes: usize) -> bool {
        Self::may_log(self, bytes)
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(Self::call(self, request))
    }
}
