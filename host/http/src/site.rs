//! The routing table: which path prefix goes to which handler, who may use it, how often, and from
//! which origins.
//!
//! A [`Site`] is immutable. A reload builds a new one and swaps it in, mounts and authentication
//! together; in-flight requests finish on the previous one.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use keepgate_auth::Access;
use keepgate_core::Handler;

use crate::gateway::{Cors, RateLimits};
use crate::metrics::{Metrics, MountMetrics};

/// An immutable routing table.
#[derive(Debug, Default)]
pub struct Site {
    /// Longest prefix first, so that the first match wins.
    routes: Vec<Route>,
}

/// What a site is told about a mount.
pub struct SiteMount {
    /// Answers its requests.
    pub handler: Arc<dyn Handler>,
    /// Who may use it.
    pub access: Arc<Access>,
    /// Which origins may use it from a browser; none if this is not set.
    pub cors: Option<Arc<Cors>>,
    /// How often it may be used; without limit if this is not set.
    pub rate_limits: Option<Arc<RateLimits>>,
}

/// A mount without cross-origin requests and rate limits.
impl From<(Arc<dyn Handler>, Arc<Access>)> for SiteMount {
    fn from((handler, access): (Arc<dyn Handler>, Arc<Access>)) -> Self {
        Self { handler, access, cors: None, rate_limits: None }
    }
}

/// One mount.
pub(crate) struct Route {
    segments: Vec<String>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) access: Arc<Access>,
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) rate_limits: Option<Arc<RateLimits>>,
    pub(crate) metrics: Arc<MountMetrics>,
}

/// Why a routing table is invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Two mounts have the same path.
    #[error("two mounts have the path {0}: give one of them another")]
    Duplicate(String),
    /// Neither `/` nor of the form `/a/b`.
    #[error(
        "{0:?} is not a valid mount path; write / or a path like /restic without a trailing slash, \
         empty segments, `.` or `..`"
    )]
    Path(String),
}

impl Site {
    /// A table of these mounts. Counters come from `metrics` and continue if a mount with the same path
    /// existed before.
    pub fn new(
        mounts: impl IntoIterator<Item: Into<SiteMount>>,
        metrics: &Metrics,
    ) -> Result<Self, SiteError> {
        let mut routes = Vec::new();
        let mut seen = HashSet::new();
        for mount in mounts {
            let SiteMount { handler, access, cors, rate_limits } = mount.into();
            let path = handler.path();
            let segments = mount_segments(path).ok_or_else(|| SiteError::Path(path.to_owned()))?;
            if !seen.insert(segments.clone()) {
                return Err(SiteError::Duplicate(path.to_owned()));
            }
            let metrics = metrics.mount(path);
            for limit in rate_limits.iter().flat_map(|limits| limits.names()) {
                // A series that begins at 0 shows its first increase.
                let _ = metrics.rate_limited(limit);
            }
            routes.push(Route { segments, handler, access, cors, rate_limits, metrics });
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.segments.len()));
        Ok(Self { routes })
    }

    /// The mount with the longest prefix of these segments that takes the rest of the path, and how
    /// many segments its prefix has.
    pub(crate) fn route(
        &self,
        segments: &[String],
        trailing_slash: bool,
    ) -> Option<(&Route, usize)> {
        let route = self.routes.iter().find(|route| {
            let below = segments.strip_prefix(route.segments.as_slice());
            below.is_some_and(|below| route.handler.takes(below, trailing_slash))
        })?;
        Some((route, route.segments.len()))
    }
}

/// Whether a mount can have this path: `/`, or segments that a path of a request can begin with.
pub fn is_mount_path(path: &str) -> bool {
    mount_segments(path).is_some()
}

fn mount_segments(path: &str) -> Option<Vec<String>> {
    let below = path.strip_prefix('/')?;
    if below.is_empty() {
        return Some(Vec::new());
    }
    let segments: Vec<String> = below.split('/').map(str::to_owned).collect();
    let valid = |segment: &String| !matches!(segment.as_str(), "" | "." | "..");
    segments.iter().all(valid).then_some(segments)
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("path", &self.handler.path())
            .field("plugin", &self.handler.plugin())
            .field("access", &self.access)
            .field("cors", &self.cors)
            .field("rate_limits", &self.rate_limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use keepgate_core::{CallError, Reply, Request};

    use super::*;

    struct At(&'static str);

    impl Handler for At {
        fn path(&self) -> &str {
            self.0
        }

        fn plugin(&self) -> &str {
            "test"
        }

        fn call(&self, _request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
            Box::pin(async { Err(CallError::NotServing("test".to_owned())) })
        }
    }

    fn site(paths: &[&'static str]) -> Result<Site, SiteError> {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let mounts = paths.iter().map(|&path| -> (Arc<dyn Handler>, Arc<Access>) {
            (Arc::new(At(path)), Arc::new(Access::Open))
        });
        Site::new(mounts, &metrics)
    }

    fn segments(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let site = site(&["/restic", "/", "/a/b", "/a"]).unwrap();
        let found = |path: &str| {
            let (route, taken) = site.route(&segments(path), false).unwrap();
            (route.handler.path().to_owned(), taken)
        };
        assert_eq!(found("restic"), ("/restic".to_owned(), 1));
        assert_eq!(found("restic/x"), ("/restic".to_owned(), 1));
        assert_eq!(found("resticx"), ("/".to_owned(), 0));
        assert_eq!(found("a/b/c"), ("/a/b".to_owned(), 2));
        assert_eq!(found("a/bc"), ("/a".to_owned(), 1));
        assert_eq!(found("a/../restic"), ("/a".to_owned(), 1));
        assert_eq!(found("/restic"), ("/".to_owned(), 0));
    }

    #[test]
    fn without_a_root_mount_some_paths_are_not_found() {
        let site = site(&["/a/b"]).unwrap();
        assert!(site.route(&segments("a"), false).is_none());
        assert!(site.route(&[], false).is_none());
        assert!(site.route(&["a/b".to_owned()], false).is_none());
        assert!(site.route(&segments("a/b"), false).is_some());
    }

    #[test]
    fn refuses_duplicate_and_invalid_paths() {
        assert_eq!(site(&["/a", "/b", "/a"]).unwrap_err(), SiteError::Duplicate("/a".to_owned()));
        for path in ["", "a", "/a/", "//", "/a//b", "/../a", "/."] {
            assert_eq!(site(&[path]).unwrap_err(), SiteError::Path(path.to_owned()), "{path}");
        }
    }
}
