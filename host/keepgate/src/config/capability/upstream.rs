//! `[upstream.NAME]`, an HTTP system that mounts may be granted by `upstreams = { name = "NAME" }`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use keepgate_runtime::Grants;
use keepgate_runtime::capability::upstreams::Upstreams;
use keepgate_upstream::{
    Address, Destination, Limits, Login, Metrics, Status, Timeouts, TlsFiles, Upstream,
    UpstreamOptions,
};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::provider::{Probe, Provider, StatusPart};
use crate::config::{Config, Interval, Mount, Problems, Size, names};

/// What the URL of a Unix socket begins with.
const SOCKET: &str = "unix:";

/// `[upstream.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTable {
    /// Where it is; either this or `addresses`.
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// The path of a Unix socket, which may not be UTF-8 if the folder of the configuration is not.
    #[serde(skip)]
    socket: Option<PathBuf>,
    /// What clients may name.
    #[serde(default)]
    pub(crate) addresses: Option<Vec<ListedAddress>>,
    /// What requests call the host.
    #[serde(default)]
    pub(crate) host: Option<String>,
    #[serde(default)]
    pub(crate) tls: Option<UpstreamTls>,
    #[serde(default)]
    pub(crate) bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
    /// Files with values of headers, by their names.
    #[serde(default)]
    pub(crate) header_files: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub(crate) methods: Option<Vec<String>>,
    /// Prefixes of paths; all if empty.
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    #[serde(default)]
    pub(crate) connect_timeout: Option<Interval>,
    /// From the last byte of a request to the head of its response.
    #[serde(default)]
    pub(crate) answer_timeout: Option<Interval>,
    /// The longest time without a byte of a body.
    #[serde(default)]
    pub(crate) stall: Option<Interval>,
    /// How many at once.
    #[serde(default)]
    pub(crate) requests: Option<usize>,
    /// How long a request waits for its turn.
    #[serde(default)]
    pub(crate) turn_timeout: Option<Interval>,
    #[serde(default)]
    pub(crate) max_head: Option<Size>,
    #[serde(default)]
    pub(crate) max_body: Option<Size>,
    /// How often a response is read on that broke off.
    #[serde(default)]
    pub(crate) resumes: Option<u32>,
    /// The path that `keepgate check --connect` asks for.
    #[serde(default)]
    pub(crate) check: Option<String>,
}

/// Addresses that clients may name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListedAddress {
    /// How their URLs begin.
    pub(crate) url: String,
    /// Whether they may lead into the gateway's own network.
    #[serde(default)]
    pub(crate) private: bool,
}

/// Whom an upstream's client trusts, and who the gateway is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    /// Defaults to the system's certificates.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// The SHA-256 of the only certificate to trust.
    #[serde(default)]
    pub(crate) fingerprint: Option<String>,
    #[serde(default)]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(default)]
    pub(crate) key: Option<PathBuf>,
}

impl UpstreamTable {
    /// The options of the client, or what is wrong with the table.
    fn to_options(&self, name: &str, metrics: Option<&Metrics>) -> Result<UpstreamOptions, String> {
        let or =
            |given: Option<Interval>, default: Duration| given.map_or(default, |given| given.0);
        let default = UpstreamOptions::new(name, self.destination()?);
        Ok(UpstreamOptions {
            tls: self.tls.as_ref().map(UpstreamTls::to_files).transpose()?.unwrap_or_default(),
            login: self.login()?,
            header_files: self.header_files.clone().into_iter().collect(),
            methods: self.methods.clone().unwrap_or(default.methods),
            paths: self.paths.clone(),
            timeouts: Timeouts {
                connect: or(self.connect_timeout, default.timeouts.connect),
                answer: or(self.answer_timeout, default.timeouts.answer),
                silence: or(self.stall, default.timeouts.silence),
                turn: or(self.turn_timeout, default.timeouts.turn),
            },
            limits: Limits {
                requests: self.requests.unwrap_or(default.limits.requests),
                head: match self.max_head {
                    Some(Size(head)) => usize::try_from(head).unwrap_or(usize::MAX),
                    None => default.limits.head,
                },
                body: self.max_body.map(|Size(body)| body),
                resumes: self.resumes.unwrap_or(default.limits.resumes),
            },
            check: self.check.clone(),
            metrics: metrics.map(|metrics| metrics.upstream(name)),
            ..default
        })
    }

    fn destination(&self) -> Result<Destination, String> {
        let host = self.host.clone();
        match (&self.url, &self.addresses) {
            (Some(url), None) => Ok(match url.strip_prefix(SOCKET) {
                Some(path) => {
                    let path = self.socket.clone().unwrap_or_else(|| PathBuf::from(path));
                    Destination::Socket { path, host }
                }
                None => Destination::Url { url: url.clone(), host },
            }),
            (None, Some(_)) if host.is_some() => {
                Err("`host` needs `url`; the addresses in the list have theirs".to_owned())
            }
            (None, Some(addresses)) => {
                let address = |listed: &ListedAddress| Address {
                    prefix: listed.url.clone(),
                    private: listed.private,
                };
                Ok(Destination::Addresses(addresses.iter().map(address).collect()))
            }
            (Some(_), Some(_)) => {
                Err("has both `url` and `addresses`; keep one of them".to_owned())
            }
            (None, None) => Err("has no `url`; add one, for example \"https://10.0.0.1:8443\" or \
                                 \"unix:/run/lxd.socket\", or `addresses` that clients may name"
                .to_owned()),
        }
    }

    fn login(&self) -> Result<Option<Login>, String> {
        match (&self.bearer_token_file, &self.user, &self.password_file) {
            (None, None, None) => Ok(None),
            (Some(token), None, None) => Ok(Some(Login::Bearer(token.clone()))),
            (None, Some(user), Some(file)) => Ok(Some(Login::Basic(user.clone(), file.clone()))),
            (Some(_), _, _) => {
                Err("has a `bearer_token_file` and a user; keep one of them".to_owned())
            }
            (None, Some(_), None) => Err("has a `user` but no `password_file`".to_owned()),
            (None, None, Some(_)) => Err("has a `password_file` but no `user`".to_owned()),
        }
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut();
        tls.flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key])
            .chain([&mut self.bearer_token_file, &mut self.password_file])
            .filter_map(Option::as_mut)
            .chain(self.header_files.values_mut())
    }
}

impl UpstreamTls {
    fn to_files(&self) -> Result<TlsFiles, String> {
        let fingerprint = self.fingerprint.as_deref().map(|text| text.trim().parse()).transpose();
        let fingerprint = fingerprint.map_err(|error| {
            let advice =
                "`keepgate check --connect` prints the 64 digits of the certificate that it shows";
            format!("fingerprint: {error}; without this key, {advice}")
        })?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err("has a `certificate` but no `key`".to_owned()),
            (None, Some(_)) => return Err("has a `key` but no `certificate`".to_owned()),
        };
        Ok(TlsFiles { ca: self.ca.clone(), fingerprint, identity })
    }
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, upstream) in &config.upstream {
        let options = upstream.get_ref().to_options(name, None);
        let checked = options
            .and_then(|options| Upstream::check(&options).map_err(|error| error.to_string()));
        if let Err(what) = checked {
            problems.add(upstream.span(), format!("[upstream.{name}] {what}"));
        }
    }
    for mount in &config.mount {
        for upstream in mount.upstreams.values() {
            if !config.upstream.contains_key(upstream.get_ref()) {
                let message = format!(
                    "mount {:?}: unknown upstream {:?}; configured upstreams: {}",
                    mount.path.get_ref(),
                    upstream.get_ref(),
                    names(config.upstream.keys())
                );
                problems.add(upstream.span(), message);
            }
        }
    }
}

/// Relative paths are relative to the configuration's folder.
pub(super) fn resolve(config: &mut Config, base: &Path) {
    for upstream in config.upstream.values_mut().map(Spanned::get_mut) {
        for path in upstream.paths() {
            *path = base.join(&*path);
        }
        let socket = upstream.url.as_deref().and_then(|url| url.strip_prefix(SOCKET));
        upstream.socket = socket.map(|path| base.join(path));
    }
}

/// Every upstream of the configuration, ready to connect.
#[derive(Debug)]
struct OpenUpstreams(BTreeMap<String, Arc<Upstream>>);

/// Reads the upstreams' files. Nothing connects yet.
pub(super) fn open(config: &Config, metrics: Option<&Metrics>) -> Result<Box<dyn Provider>> {
    let mut upstreams = BTreeMap::new();
    for (name, upstream) in &config.upstream {
        let options = upstream.get_ref().to_options(name, metrics).map_err(|what| anyhow!(what));
        let open = options.and_then(|options| Ok(Upstream::new(options)?));
        let open = open.with_context(|| format!("[upstream.{name}]"))?;
        upstreams.insert(name.clone(), Arc::new(open));
    }
    Ok(Box::new(OpenUpstreams(upstreams)))
}

#[async_trait]
impl Provider for OpenUpstreams {
    fn grant(&self, mount: Option<&Mount>, grants: &mut Grants) -> Result<()> {
        let mut upstreams = Upstreams::default();
        for (name, upstream) in mount.iter().flat_map(|mount| &mount.upstreams) {
            let upstream = upstream.get_ref();
            let open = self.0.get(upstream);
            let open = open.ok_or_else(|| {
                anyhow!("unknown upstream {upstream:?}; expected a table [upstream.{upstream}]")
            })?;
            upstreams.0.insert(name.clone(), open.clone());
        }
        grants.insert(upstreams);
        Ok(())
    }

    /// Connects to each, and asks for its path to check.
    async fn probe(&self) -> Probe {
        let mut probe = Probe::default();
        for (name, upstream) in &self.0 {
            match upstream.probe().await {
                Ok(line) => probe.lines.push(format!("upstream {name}  {line}")),
                Err(why) => probe.problems.push(format!("[upstream.{name}] {why}")),
            }
        }
        probe
    }

    fn status(&self) -> Option<StatusPart> {
        let upstreams = self.0.clone();
        let status = move || {
            let all =
                upstreams.iter().map(|(name, upstream)| (name.clone(), shown(&upstream.status())));
            Value::Object(all.collect())
        };
        Some(("upstreams", Arc::new(status)))
    }
}

fn shown(status: &Status) -> Value {
    let answered = status.answered.map(humantime::format_rfc3339_seconds);
    let mut shown = json!({
        "requests": status.requests,
        "answered": answered.map(|answered| answered.to_string()),
    });
    if let (Value::Object(shown), Some(reason)) = (&mut shown, &status.failing) {
        shown.insert("reason".to_owned(), json!(reason));
    }
    shown
}
