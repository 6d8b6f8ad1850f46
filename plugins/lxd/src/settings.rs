//! The mount's settings and their checks. If you add a key here, add it to the README.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::retention::Policy;
use keepgate_sdk::{Failure, HumanDuration};
use serde::Deserialize;

use crate::lxd::Patience;
use crate::names::fits;

/// How long LXD may work on one backup or restore.
const OPERATION_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// How long it may do so without progress.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The mount's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whom notifications are sent to if a request names nobody.
    pub(crate) notify_endpoint: Option<String>,
    /// 202, or 200 for scripts that were written for lxmin.
    async_http_status: Option<u16>,
    /// Which backups of an instance stay; without it, all of them.
    pub(crate) keep: Option<Policy>,
    /// Patterns of the instances that users may have to do with; users that are not listed, with all.
    instances: BTreeMap<String, Vec<String>>,
    operation_limit: Option<HumanDuration>,
    progress_limit: Option<HumanDuration>,
}

impl Settings {
    /// Says what is wrong, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !matches!(self.async_status(), 200 | 202) {
            let advice = "write 202, or 200 for scripts that were written for lxmin";
            return Err(format!("async_http_status: {}; {advice}", self.async_status()));
        }
        if let Some(endpoint) = &self.notify_endpoint {
            crate::notify::check_url(endpoint)
                .map_err(|failure| format!("notify_endpoint: {}", failure.message()))?;
        }
        Ok(())
    }

    /// The HTTP status of answers to requests that start something.
    pub(crate) fn async_status(&self) -> u16 {
        self.async_http_status.unwrap_or(202)
    }

    /// How long LXD may work on one backup or restore.
    pub(crate) fn patience(&self) -> Patience {
        let or = |limit: Option<HumanDuration>, default| limit.map_or(default, |limit| limit.0);
        Patience {
            whole: or(self.operation_limit, OPERATION_LIMIT),
            still: or(self.progress_limit, PROGRESS_LIMIT),
            reports_at_once: false,
        }
    }

    /// Whether a user may have to do with an instance.
    pub(crate) fn allows(&self, user: &str, instance: &str) -> bool {
        let patterns = self.instances.get(user);
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| fits(pattern, instance)))
    }

    /// Fails with [`Failure::Denied`] if a user may not have to do with an instance.
    pub(crate) fn check_user(&self, user: &str, instance: &str) -> Result<(), Failure> {
        match self.allows(user, instance) {
            true => Ok(()),
            false => Err(Failure::Denied("not authorized".to_owned())),
        }
    }
}
