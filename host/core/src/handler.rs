//! The boundary between the HTTP server and what answers its requests. The runtime's mounts implement
//! it; tests and benchmarks bring handlers of their own.

use futures_util::future::BoxFuture;

use crate::{CallError, RefusalForm, Reply, Request};

/// Answers the requests below one path prefix.
pub trait Handler: Send + Sync + 'static {
    /// Where it is mounted: `/`, or a path such as `/restic` without a trailing slash.
    fn path(&self) -> &str;

    /// The name of the plugin, for logs.
    fn plugin(&self) -> &str;

    /// SHA-256 of the plugin's component in lower-case hex, if one is loaded.
    fn digest(&self) -> Option<&str> {
        None
    }

    /// The form in which its surface reports failures: for what the host refuses at this path, before a call or
    /// after one without a reply. `None` for text.
    fn refusal_form(&self) -> Option<&RefusalForm> {
        None
    }

    /// Whether this handler takes a request whose path begins with the mount's: `below` is the rest
    /// of the path, and `trailing_slash` says whether the path ended with `/`. A request that is not
    /// taken goes to the next shorter mount. By default every request is taken.
    fn takes(&self, below: &[String], trailing_slash: bool) -> bool {
        let _ = (below, trailing_slash);
        true
    }

    /// Asks whether a line of this many bytes that the plugin caused may be logged. A plugin has one budget for all of
    /// them, and each that is admitted uses it up.
    fn may_log(&self, bytes: usize) -> bool {
        let _ = bytes;
        true
    }

    /// Answers one request. The future is dropped if the client goes away.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>>;
}
