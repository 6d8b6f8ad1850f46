//! Reloads: the one task that changes what serves. It reacts to changes in the plugin folder and to
//! SIGHUP. Both ways build a [`Candidate`] beside the table that serves; an invalid configuration is
//! rejected, and the current one stays active.

use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keepgate_http::{CombinedLog, Tls};
use keepgate_runtime::{Loader, Watch};
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use super::candidate::{Candidate, Configuration, Published, log_error};
use super::{Source, notify};
use crate::assemble::Assembly;
use crate::certificates::Certificates;
use crate::config::Config;

/// How soon the plugin folder is scanned again while a file is still being copied or compiled.
const UNSETTLED: Duration = Duration::from_millis(100);
/// How long the start waits for the plugins of mounts. What is not ready then starts to serve as soon as it is.
const MOUNTED: Duration = Duration::from_secs(30);
/// The same for other files: `[auto_mount]` may mount them, or nothing may.
const OTHERS: Duration = Duration::from_secs(5);
/// How long a scan waits for plugins that are being compiled; meanwhile there are no other reloads.
pub(super) const SCAN: Duration = Duration::from_millis(500);

/// Owns everything that a reload changes.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) watch: Watch,
    pub(super) loader: Loader,
    pub(super) active: Configuration,
    pub(super) published: Published,
    pub(super) files: ReloadedFiles,
}

/// Files that are read again on SIGHUP whether the configuration has changed or not, together with
/// the files of users.
pub(super) struct ReloadedFiles {
    pub(super) tls: Vec<Arc<Tls>>,
    pub(super) access_log: Option<Arc<CombinedLog>>,
    pub(super) certificates: Arc<Certificates>,
}

impl Reloader {
    /// Publishes the first table, once no file in the plugin folder is still being copied or compiled, or this has been so
    /// for too long.
    pub(super) async fn first(&mut self) -> Result<()> {
        self.files.ask_for_certificates(&self.active.config);
        let begun = Instant::now();
        while !self.loader.scan().await.settled {
            let mut mounts = self.active.assembly.mounts.iter();
            let wanted = mounts.any(|plan| self.loader.is_loading(&plan.spec.plugin));
            if begun.elapsed() >= if wanted { MOUNTED } else { OTHERS } {
                break;
            }
            tokio::time::sleep(UNSETTLED).await;
        }
        self.publish_plugins().await
    }

    /// Reloads until the other end of `stop` is dropped, then returns itself to be closed.
    pub(super) async fn run(mut self, mut hangup: Signal, mut stop: oneshot::Receiver<()>) -> Self {
        // The first table may have been published before.
        let mut settled = false;
        loop {
            let unsettled = async {
                match settled {
                    true => future::pending().await,
                    false => tokio::time::sleep(UNSETTLED).await,
                }
            };
            settled = tokio::select! {
                _ = &mut stop => return self,
                () = self.watch.changed() => self.reload_plugins().await,
                () = unsettled => self.reload_plugins().await,
                Some(()) = hangup.recv() => self.reload_everything().await,
            };
        }
    }

    /// Saves what the next start wants to know.
    pub(super) async fn close(self) {
        for named in self.active.assembly.quotas() {
            named.close().await;
        }
    }

    /// Loads changed plugins. Like all of these, returns whether no file is still being copied or compiled.
    async fn reload_plugins(&mut self) -> bool {
        let scanned = self.loader.scan().await;
        if scanned.changed {
            log_error(self.publish_plugins().await.context("plugins cannot be reloaded"));
        }
        scanned.settled
    }

    /// Reacts to SIGHUP.
    async fn reload_everything(&mut self) -> bool {
        notify::reloading();
        tracing::info!("reloading certificates, users and configuration");
        self.files.reload(&self.active.assembly);
        let settled = match self.load_configuration().await {
            Ok(Some(new)) => self.reload_configuration(new).await,
            Ok(None) => self.reload_plugins().await,
            Err(error) => {
                log_rejected(&error);
                self.reload_plugins().await
            }
        };
        notify::ready();
        settled
    }

    /// The configuration as the file is now, with what it names opened. What the active one has open
    /// already is shared. `None` if there is no file.
    async fn load_configuration(&self) -> Result<Option<Configuration>> {
        let Some(config) = self.source.load()? else { return Ok(None) };
        let (before, own) = (&self.active.assembly, self.published.own.clone());
        let assembly = Assembly::new(&config, Some(before), own, &self.published.systems).await?;
        if self.active.config.needs_restart(&config) {
            tracing::warn!(
                "changes of listeners, logs, [jobs], [records], [timeouts], plugin_dir, data_dir and `only` of [plugins] \
                 take effect at the next start"
            );
        }
        Ok(Some(Configuration { config, assembly }))
    }

    /// Goes over to a new configuration, or keeps the active one if the new one is not valid.
    async fn reload_configuration(&mut self, mut new: Configuration) -> bool {
        let undo = self.loader.change_trust(new.assembly.trust.clone()).await;
        let mut settled = self.loader.scan().await.settled;
        let candidate = Candidate::build(&mut new, &self.loader, &self.published).await;
        match candidate.and_then(|candidate| candidate.validate(&self.published)) {
            Ok(candidate) => {
                self.active = new;
                self.files.certificates.change(&self.active.config);
                self.files.ask_for_certificates(&self.active.config);
                let assembly = &self.active.assembly;
                let changed = assembly.change_quotas().await;
                log_error(changed.context("the previous quotas stay active"));
                candidate.commit(assembly, &mut self.loader, &self.published).await;
            }
            Err(error) => {
                log_rejected(&error);
                if let Some(undo) = undo {
                    self.loader.undo(undo);
                    settled = self.loader.scan().await.settled;
                }
                // The scan may have loaded plugins.
                log_error(self.publish_plugins().await.context("plugins cannot be reloaded"));
            }
        }
        settled
    }

    /// Publishes the plugins that are loaded, with the active configuration.
    async fn publish_plugins(&mut self) -> Result<()> {
        let candidate = Candidate::build(&mut self.active, &self.loader, &self.published).await?;
        candidate.commit(&self.active.assembly, &mut self.loader, &self.published).await;
        Ok(())
    }
}

impl ReloadedFiles {
    /// Sets whether listeners ask clients for certificates. Clients that are connected are not asked any more.
    pub(super) fn ask_for_certificates(&self, config: &Config) {
        let asks = config.asks_for_certificates();
        self.tls.iter().for_each(|tls| tls.ask_for_certificates(asks));
    }

    /// Reads certificates and users again and reopens the access log. What cannot be read stays as it
    /// was.
    fn reload(&self, assembly: &Assembly) {
        for tls in &self.tls {
            if let Err(error) = tls.reload() {
                tracing::error!(%error, "certificate rejected, the current one stays active");
            }
        }
        assembly.authentication.reload();
        if let Some(log) = &self.access_log {
            // It logs its errors itself.
            let _ = log.reopen();
        }
    }
}

/// One line for each error of a configuration.
fn log_rejected(error: &anyhow::Error) {
    for error in crate::output::explain(error).lines() {
        tracing::error!(%error, "configuration rejected, the current one stays active");
    }
}
