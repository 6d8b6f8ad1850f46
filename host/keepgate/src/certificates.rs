//! Until when certificates are valid: those of listeners, of the systems behind the gateway, and of the authorities of its
//! clients. Reported at the start, once a day, by `keepgate check` and as a metric.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use keepgate_auth::htpasswd::is_user_name;
use keepgate_certificates::validity::now;
use keepgate_certificates::{Fingerprint, State, Validity, file};
use keepgate_http::Tls;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::cli::CertificateCommand;
use crate::config::Config;
use crate::metrics::families;
use crate::output::say;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where certificates come from.
#[derive(Clone)]
enum Source {
    /// What new connections of a listener use, which a renewed file changes only at a reload.
    Listener(Arc<Tls>),
    /// A client certificate with its chain, read for each connection.
    Client(PathBuf),
    /// Authorities, of which each is an alternative.
    Authorities(PathBuf),
}

/// The certificates of a running gateway.
pub(crate) struct Certificates {
    listeners: Vec<Arc<Tls>>,
    sources: ArcSwap<Vec<Source>>,
}

impl Certificates {
    pub(crate) fn new(listeners: Vec<Arc<Tls>>, config: &Config) -> Arc<Self> {
        let certificates = Self { listeners, sources: ArcSwap::default() };
        certificates.change(config);
        Arc::new(certificates)
    }

    /// Goes over to the systems and the clients' authorities of another configuration.
    pub(crate) fn change(&self, config: &Config) {
        let listeners = self.listeners.iter().cloned().map(Source::Listener);
        let clusters = config.etcd.values().filter_map(|cluster| cluster.tls.as_ref());
        let clusters = clusters.flat_map(|tls| {
            let ca = tls.ca.clone().map(Source::Authorities);
            ca.into_iter().chain(tls.certificate.clone().map(Source::Client))
        });
        let buckets = config.store.values().filter_map(|store| store.get_ref().s3.as_ref());
        let buckets = buckets.filter_map(|bucket| bucket.get_ref().ca.clone());
        let clients = config.auth.values().flat_map(|auth| auth.get_ref().client_ca.clone());
        let issuers = config.auth.values().filter_map(|auth| auth.get_ref().ca.clone());
        let authorities = buckets.chain(clients).chain(issuers).map(Source::Authorities);
        let upstreams =
            config.upstream.values().filter_map(|upstream| upstream.get_ref().tls.as_ref());
        let upstreams = upstreams.flat_map(|tls| {
            let ca = tls.ca.clone().map(Source::Authorities);
            ca.into_iter().chain(tls.certificate.clone().map(Source::Client))
        });
        let sources = listeners.chain(clusters).chain(authorities).chain(upstreams);
        self.sources.store(Arc::new(sources.collect()));
    }

    /// Each file once, with its validity. One that cannot be read is missing here; whoever uses it says why.
    /// Blocks.
    pub(crate) fn validities(&self) -> Vec<(PathBuf, Validity)> {
        let mut found: Vec<(PathBuf, Validity)> = Vec::new();
        for source in self.sources.load().iter() {
            let (path, validity) = match source {
                Source::Listener(tls) => (tls.files().certificate.clone(), tls.validity()),
                Source::Client(path) => (path.clone(), read(path, Validity::shortest)),
                Source::Authorities(path) => (path.clone(), read(path, Validity::longest)),
            };
            if let Some(validity) = validity
                && !found.iter().any(|(known, _)| *known == path)
            {
                found.push((path, validity));
            }
        }
        found
    }

    /// What is wrong now, and what will be soon: a line for each.
    pub(crate) fn problems(&self) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut soon) = (Vec::new(), Vec::new());
        for (path, validity) in self.validities() {
            let (file, subject) = (path.display(), &validity.subject);
            match validity.state(now()) {
                State::Valid => {}
                State::ExpiresSoon(days) => soon.push(format!(
                    "certificate {file} ({subject}) expires in {days} days; renew it"
                )),
                State::Expired => {
                    wrong.push(format!("certificate {file} ({subject}) has expired; renew it"));
                }
                State::NotYetValid => wrong.push(format!(
                    "certificate {file} ({subject}) is not valid yet; check this machine's clock"
                )),
            }
        }
        (wrong, soon)
    }

    /// Logs what is not valid for long.
    pub(crate) fn log(&self) {
        for (path, validity) in self.validities() {
            let (file, subject) = (path.display(), &validity.subject);
            match validity.state(now()) {
                State::Valid => {}
                State::ExpiresSoon(days) => {
                    tracing::warn!(%file, subject, days, "certificate expires soon");
                }
                State::Expired => tracing::error!(%file, subject, "certificate has expired"),
                State::NotYetValid => {
                    tracing::error!(%file, subject, "certificate is not valid yet");
                }
            }
        }
    }

    /// Logs that once a day. Never returns.
    pub(crate) async fn log_daily(self: Arc<Self>) {
        loop {
            tokio::time::sleep(DAY).await;
            let certificates = self.clone();
            // Reads files.
            let _ = tokio::task::spawn_blocking(move || certificates.log()).await;
        }
    }
}

fn read(
    path: &Path,
    choose: fn(&[rustls_pki_types::CertificateDer<'_>]) -> Option<Validity>,
) -> Option<Validity> {
    choose(&file::certificates(path).ok()?)
}

/// The times for Prometheus, read at each scrape.
pub(crate) struct CertificateMetrics {
    certificates: Arc<Certificates>,
    expiry: IntGaugeVec,
}

impl CertificateMetrics {
    pub(crate) fn new(certificates: Arc<Certificates>) -> Result<Self, prometheus::Error> {
        let name = "keepgate_certificate_expiry_timestamp_seconds";
        let help = "Time at which the first certificate of a chain, or the last of a file of authorities, expires";
        Ok(Self { certificates, expiry: IntGaugeVec::new(Opts::new(name, help), &["file"])? })
    }
}

impl Collector for CertificateMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.expiry.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.expiry.reset();
        for (path, validity) in self.certificates.validities() {
            let file = path.display().to_string();
            self.expiry.with_label_values(&[file.as_str()]).set(validity.not_after);
        }
        families(self.expiry.collect())
    }
}

/// Runs `keepgate certificate` and returns the exit code.
pub(crate) fn command(command: &CertificateCommand) -> Result<u8> {
    let CertificateCommand::Fingerprint { file, name } = command;
    let certificates = file::certificates(file)?;
    let first = certificates.first().context("the file has no certificate")?;
    let fingerprint = Fingerprint::of(first);
    match name {
        None => say!("{fingerprint}")?,
        Some(name) if is_user_name(name) => say!("{fingerprint} {name}")?,
        Some(name) => {
            bail!("user name {name:?}: only letters, digits, `@`, `.`, `_` and `-` are allowed")
        }
    }
    Ok(0)
}
