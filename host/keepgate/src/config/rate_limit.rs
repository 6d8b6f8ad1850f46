//! `[mount.rate_limit.NAME]`: how many requests clients of a mount may make in some time. Which values make sense is
//! decided by `keepgate_http::RateLimits`, which serves with them.

use std::ops::Range;

use keepgate_http::{CountedRequests, RateLimitBy, RateLimitError, RateLimitOptions, RateLimits};
use serde::Deserialize;
use toml::Spanned;

use super::{Interval, Mount, Problems};

/// `[mount.rate_limit.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitTable {
    pub(crate) by: By,
    /// How many in each `per`.
    pub(crate) requests: Spanned<u32>,
    pub(crate) per: Spanned<Interval>,
    /// How many at once; `requests` by default.
    #[serde(default)]
    pub(crate) burst: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) methods: Option<Spanned<Vec<Spanned<String>>>>,
    /// Patterns of paths below the mount.
    #[serde(default)]
    pub(crate) paths: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(crate) count: Count,
}

/// Who is counted separately.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Principal,
    Address,
}

/// Which requests count.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Count {
    #[default]
    All,
    Failed,
}

/// Reports everything that is wrong with the limits of a mount, each at its place.
pub(super) fn check(about: &str, mount: &Mount, problems: &mut Problems) {
    for (name, table) in &mount.rate_limit {
        for error in table.to_options(name).problems() {
            let (key, span) = table.place(&error);
            problems.add(span, format!("{about}: rate_limit.{name}: {key}: {error}"));
        }
    }
}

impl Mount {
    /// How often the mount may be used; `None` if nothing limits it. Limits that `before` has, too, continue to count.
    pub(crate) fn rate_limits(
        &self,
        before: Option<&RateLimits>,
    ) -> Result<Option<RateLimits>, RateLimitError> {
        let limits = self.rate_limit.iter().map(|(name, table)| table.to_options(name));
        let limited = !self.rate_limit.is_empty();
        limited.then(|| RateLimits::new(limits, before)).transpose()
    }
}

impl RateLimitTable {
    fn to_options(&self, name: &str) -> RateLimitOptions {
        let texts = |listed: &Spanned<Vec<Spanned<String>>>| {
            listed.get_ref().iter().map(|text| text.get_ref().clone()).collect()
        };
        RateLimitOptions {
            name: name.to_owned(),
            by: match self.by {
                By::Principal => RateLimitBy::Principal,
                By::Address => RateLimitBy::Address,
            },
            requests: *self.requests.get_ref(),
            per: self.per.get_ref().0,
            burst: self.burst.as_ref().map(|burst| *burst.get_ref()),
            methods: self.methods.as_ref().map(texts),
            paths: self.paths.as_ref().map(texts),
            count: match self.count {
                Count::All => CountedRequests::All,
                Count::Failed => CountedRequests::Failed,
            },
        }
    }

    /// The key that an error is about, and where its value is.
    fn place(&self, error: &RateLimitError) -> (&'static str, Range<usize>) {
        let whole = self.requests.span();
        let list = |listed: &Option<Spanned<Vec<Spanned<String>>>>, text: Option<&str>| {
            let listed = listed.as_ref();
            let items = listed.into_iter().flat_map(Spanned::get_ref);
            let mut found = items.filter(|item| Some(item.get_ref().as_str()) == text);
            let item = found.next().map(Spanned::span);
            item.or_else(|| listed.map(Spanned::span)).unwrap_or_else(|| whole.clone())
        };
        match error {
            RateLimitError::Requests(_) => ("requests", self.requests.span()),
            RateLimitError::Per(_) => ("per", self.per.span()),
            RateLimitError::Burst(_) => {
                ("burst", self.burst.as_ref().map_or_else(|| whole.clone(), Spanned::span))
            }
            RateLimitError::NoMethod => ("methods", list(&self.methods, None)),
            RateLimitError::Method(text) => ("methods", list(&self.methods, Some(text))),
            RateLimitError::NoPath => ("paths", list(&self.paths, None)),
            RateLimitError::Path { pattern, .. } => ("paths", list(&self.paths, Some(pattern))),
        }
    }
}
