//! Authentication methods: which of them a table is, and those whose text must be parsed to be checked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use keepgate_auth::{IpNet, ProxyHeader};
use serde::Deserialize;
use toml::Spanned;

use super::{Config, Interval, Problems};

/// An `[auth.NAME]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    /// The htpasswd file.
    #[serde(default)]
    pub(crate) htpasswd: Option<PathBuf>,
    /// The header in which a proxy passes the name of the user.
    #[serde(default)]
    pub(crate) header: Option<Spanned<String>>,
    /// Addresses of trusted proxies; if empty, all are trusted.
    #[serde(default)]
    pub(crate) from: Vec<Spanned<String>>,
    /// Authorities whose certificates clients may present.
    #[serde(default)]
    pub(crate) client_ca: Vec<PathBuf>,
    /// A list of clients' certificates by their fingerprints.
    #[serde(default)]
    pub(crate) fingerprints: Option<PathBuf>,
    /// Whether a client may present any certificate, which the plugin judges.
    #[serde(default)]
    pub(crate) any_key: bool,
    /// Whose tokens clients may present, exactly as the tokens name it.
    #[serde(default)]
    pub(crate) issuer: Option<Spanned<String>>,
    /// For whom tokens must be.
    #[serde(default)]
    pub(crate) audience: Vec<String>,
    /// Where the issuer's keys are; wherever it says by default.
    #[serde(default)]
    pub(crate) jwks_url: Option<Spanned<String>>,
    /// A file with the issuer's keys.
    #[serde(default)]
    pub(crate) jwks_file: Option<PathBuf>,
    /// The authorities for connections to the issuer; the system's by default.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// The claim with the user's name.
    #[serde(default)]
    pub(crate) name: Option<Spanned<String>>,
    /// Further claims for plugins.
    #[serde(default)]
    pub(crate) claims: Vec<Spanned<String>>,
    /// Values of which a claim must have one.
    #[serde(default)]
    pub(crate) require: BTreeMap<String, Spanned<Vec<String>>>,
    /// How far the issuer's clock may be off.
    #[serde(default)]
    pub(crate) leeway: Option<Spanned<Interval>>,
    /// How tokens may be signed.
    #[serde(default)]
    pub(crate) algorithms: Option<Spanned<Vec<String>>>,
}

/// How an `[auth.NAME]` table authenticates clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Htpasswd,
    Proxy,
    Certificates,
    Bearer,
}

impl Auth {
    /// `None` if there is not exactly one.
    pub(crate) fn way(&self) -> Option<Way> {
        let certificates =
            !self.client_ca.is_empty() || self.fingerprints.is_some() || self.any_key;
        let ways = [
            (Way::Htpasswd, self.htpasswd.is_some()),
            (Way::Proxy, self.header.is_some()),
            (Way::Certificates, certificates),
            (Way::Bearer, self.issuer.is_some()),
        ];
        let mut given = ways.into_iter().filter(|(_, is_given)| *is_given).map(|(way, _)| way);
        given.next().filter(|_| given.next().is_none())
    }

    /// The files that it names.
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let lists = self.htpasswd.iter_mut().chain(&mut self.fingerprints);
        lists.chain(&mut self.client_ca).chain(&mut self.jwks_file).chain(&mut self.ca)
    }
}

/// Who may use what: a mount, the metrics page, mounts of `[auto_mount]`.
pub(super) struct Admission<'a> {
    /// For messages: `mount "/restic"`.
    pub(super) about: String,
    methods: &'a [Spanned<String>],
    span: Range<usize>,
}

impl Config {
    /// Every place that names authentication methods.
    pub(super) fn admissions(&self) -> impl Iterator<Item = Admission<'_>> {
        let mounts = self.mount.iter().map(|mount| Admission {
            about: format!("mount {:?}", mount.path.get_ref()),
            methods: &mount.auth,
            span: mount.path.span(),
        });
        let page = self.metrics.iter().map(|page| Admission {
            about: "[metrics]".to_owned(),
            methods: &page.auth,
            span: page.path.span(),
        });
        let auto = self.auto_mount.iter().map(|auto| Admission {
            about: "[auto_mount]".to_owned(),
            methods: &auto.auth,
            span: auto.store.span(),
        });
        mounts.chain(page).chain(auto)
    }

    fn ways(&self, admission: &Admission<'_>) -> Vec<Option<Way>> {
        let way = |name: &Spanned<String>| self.auth.get(name.get_ref())?.get_ref().way();
        admission.methods.iter().map(way).collect()
    }

    /// Whether clients are asked for certificates.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        let certificates = Some(Way::Certificates);
        self.admissions().any(|admission| self.ways(&admission).contains(&certificates))
    }

    /// What only clients with a certificate may use.
    fn only_by_certificate(&self) -> impl Iterator<Item = Admission<'_>> {
        self.admissions().filter(|admission| {
            let ways = self.ways(admission);
            !ways.is_empty() && ways.iter().all(|way| *way == Some(Way::Certificates))
        })
    }

    /// Listeners without TLS, on which nobody can present a certificate, and what nobody can use there.
    pub(crate) fn unreachable(&self) -> Vec<String> {
        let plain = self.listener.iter().filter(|listener| listener.tls.is_none());
        let line = |listener: &super::Listener| {
            let address = listener.address.get_ref();
            let what: Vec<_> = self.only_by_certificate().map(|one| one.about).collect();
            (!what.is_empty()).then(|| {
                let what = what.join(", ");
                format!(
                    "listener {address} has no TLS, so nobody can present a certificate there or use {what}"
                )
            })
        };
        plain.filter_map(line).collect()
    }
}

/// Checks that whoever needs a certificate can present it somewhere.
pub(super) fn check_certificates(config: &Config, problems: &mut Problems) {
    if config.listener.iter().any(|listener| listener.tls.is_some()) {
        return;
    }
    for admission in config.only_by_certificate() {
        let about = &admission.about;
        let message = format!(
            "{about}: nobody can get in, because no listener has TLS and `auth` accepts nothing but certificates; add \
             [listener.tls], or another method"
        );
        problems.add(admission.span.clone(), message);
    }
}

/// The header in which a proxy passes the user's name.
pub(crate) fn proxy_header(auth: &Auth) -> Result<ProxyHeader> {
    let header = auth.header.as_ref().ok_or_else(|| anyhow!("`header` is missing"))?;
    let header: ProxyHeader = header.get_ref().parse()?;
    let mut networks = Vec::new();
    for from in &auth.from {
        networks.push(network(from.get_ref())?);
    }
    Ok(header.trusted_from(networks))
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map_err(|_| anyhow!("{text:?} is neither an address nor a network such as 10.0.0.0/8"))
}
