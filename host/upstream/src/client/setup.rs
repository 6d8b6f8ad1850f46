//! An upstream from the operator's settings: what is wrong with them, and what they mean.

use std::sync::{Arc, Mutex};

use http::Method;
use tokio::sync::Semaphore;

use super::exchange::{self, IDLE};
use super::{Inner, Upstream};
use crate::credentials::Credentials;
use crate::dial::{Resolve, System};
use crate::options::{Destination, Limits, OptionsError, Timeouts, TlsFiles, UpstreamOptions};
use crate::path::{self, PathRule};
use crate::target::{self, Route};
use crate::tls::Tls;
use crate::url::Url;

/// The smallest head that hyper can be limited to.
const SMALLEST_HEAD: usize = 8192;

impl Upstream {
    /// Checks the options and reads all files once, which blocks. Does not connect.
    ///
    /// # Errors
    ///
    /// Names the setting or the file that cannot be used.
    pub fn new(options: UpstreamOptions) -> Result<Self, OptionsError> {
        Self::with_resolver(options, Arc::new(System))
    }

    /// Checks the options as far as it goes without reading a file.
    ///
    /// # Errors
    ///
    /// Names the setting that is wrong.
    pub fn check(options: &UpstreamOptions) -> Result<(), OptionsError> {
        check(options).map(drop)
    }

    /// As [`new`](Self::new), with another resolver of names.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_resolver(
        options: UpstreamOptions,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, OptionsError> {
        let Checked { route, methods, rules } = check(&options)?;
        let UpstreamOptions {
            name,
            destination,
            tls,
            login,
            header_files,
            timeouts,
            limits,
            check,
            metrics,
            ..
        } = options;
        let listed = matches!(destination, Destination::Addresses(_));
        let credentials = Credentials::new(login, header_files)?;
        credentials.read().map_err(OptionsError)?;
        let needed = is_encrypted(&destination);
        let tls = Tls::new(&name, tls, !listed, needed).map_err(OptionsError)?;
        let tls = Arc::new(tls);
        let dialer = target::dialer(&destination, &tls, timeouts.connect, &resolver)?;
        let pooled = dialer.clone().map(|dialer| exchange::client(dialer, &limits, IDLE));
        Ok(Self(Arc::new(Inner {
            name,
            route,
            rules,
            methods,
            secret: credentials.names(),
            credentials,
            timeouts,
            limits,
            check,
            tls,
            resolver,
            dialer,
            pooled,
            turns: Arc::new(Semaphore::new(limits.requests)),
            metrics,
            state: Mutex::default(),
        })))
    }
}

/// What the settings mean.
struct Checked {
    route: Route,
    methods: Vec<Method>,
    rules: Vec<PathRule>,
}

/// Checks all that can be checked without files.
fn check(options: &UpstreamOptions) -> Result<Checked, OptionsError> {
    let UpstreamOptions { destination, tls, login, header_files, .. } = options;
    let UpstreamOptions { methods, paths, timeouts, limits, check, .. } = options;
    let route = Route::new(destination)?;
    let methods = target::methods(methods)?;
    let rules = paths.iter().map(|path| {
        PathRule::parse(path).map_err(|what| OptionsError(format!("path {path:?}: {what}")))
    });
    let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
    if matches!(destination, Destination::Addresses(_)) {
        if !rules.is_empty() {
            let what = "paths: the addresses in the list have theirs; remove it";
            return Err(OptionsError(what.to_owned()));
        }
        if check.is_some() {
            let what = "check: in a list of addresses is nothing to check; remove it";
            return Err(OptionsError(what.to_owned()));
        }
    }
    if let Some(check) = check {
        path::check_target(check)
            .map_err(|what| OptionsError(format!("check {check:?}: {what}")))?;
    }
    check_limits(timeouts, limits)?;
    check_tls(destination, tls)?;
    Credentials::new(login.clone(), header_files.clone())?;
    Ok(Checked { route, methods, rules })
}

fn check_limits(timeouts: &Timeouts, limits: &Limits) -> Result<(), OptionsError> {
    let wrong = |what: String| Err(OptionsError(what));
    let Timeouts { connect, answer, silence, turn } = timeouts;
    if [connect, answer, silence, turn].iter().any(|limit| limit.is_zero()) {
        return wrong("a limit in time of zero lets nothing happen".to_owned());
    }
    if limits.requests == 0 || limits.requests > Semaphore::MAX_PERMITS {
        return wrong("requests: expected at least 1".to_owned());
    }
    if limits.head < SMALLEST_HEAD || u32::try_from(limits.head).is_err() {
        return wrong(format!("max_head: expected at least {SMALLEST_HEAD} bytes"));
    }
    Ok(())
}

fn check_tls(destination: &Destination, tls: &TlsFiles) -> Result<(), OptionsError> {
    let wrong = |what: &str| Err(OptionsError(what.to_owned()));
    if tls.ca.is_some() && tls.fingerprint.is_some() {
        return wrong("`ca` and `fingerprint` both say whom to trust; keep one of them");
    }
    if *tls != TlsFiles::default() && !is_encrypted(destination) {
        return wrong(
            "TLS files are configured, but the address is not https://; write https://, or remove them",
        );
    }
    Ok(())
}

fn is_encrypted(destination: &Destination) -> bool {
    let https = |text: &str| Url::parse(text).is_ok_and(|url| url.encrypted);
    match destination {
        Destination::Url { url, .. } => https(url),
        Destination::Socket { .. } => false,
        Destination::Addresses(addresses) => addresses.iter().any(|one| https(&one.prefix)),
    }
}
