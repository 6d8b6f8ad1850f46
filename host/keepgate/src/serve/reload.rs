//! The one task that changes what serves: it looks at the plugin folder when something happened
//! there, reads the configuration again on SIGHUP, builds a new table beside the old one and swaps
//! it in. What cannot be used leaves what there was.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use arc_swap::ArcSwap;
use keepgate_http::{CombinedLog, Handler, Metrics, Site, Tls};
use keepgate_jobs::Jobs;
use keepgate_runtime::{Loader, Watch};
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use super::pages::{Current, Pages};
use super::{Source, notify};
use crate::assemble::Assembly;
use crate::config::Config;
use crate::schedules;

/// How soon the plugin folder is looked at again while a file is on its way.
const SOON: Duration = Duration::from_millis(100);

/// Owns everything that a reload changes.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) config: Config,
    pub(super) assembly: Assembly,
    pub(super) loader: Loader,
    pub(super) watch: Watch,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pages: Pages,
    pub(super) tls: Vec<Arc<Tls>>,
    pub(super) access_log: Option<Arc<CombinedLog>>,
    pub(super) jobs: Option<Arc<Jobs>>,
}

impl Reloader {
    /// The first table, of whatever is in the plugin folder once all files there are whole.
    pub(super) async fn first(&mut self) -> Result<()> {
        while !self.loader.scan().await.settled {
            tokio::time::sleep(SOON).await;
        }
        self.swap(None).await
    }

    /// Reloads until the other end of `stop` is dropped; gives itself back, to be closed.
    pub(super) async fn run(mut self, mut hangup: Signal, mut stop: oneshot::Receiver<()>) -> Self {
        let mut settled = true;
        loop {
            let soon = async {
                if settled {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(SOON).await;
            };
            let hung_up = tokio::select! {
                () = self.watch.changed() => false,
                () = soon => false,
                _ = &mut stop => return self,
                signal = hangup.recv() => signal.is_some(),
            };
            let new = if hung_up { self.read_again().await } else { None };
            let undo = match &new {
                Some((assembly, _)) => self.loader.change_trust(assembly.trust.clone()).await,
                None => None,
            };
            let scanned = self.loader.scan().await;
            settled = scanned.settled;
            let renewed = new.is_some();
            let swapped = match new {
                Some(new) => {
                    self.swap(Some(new)).await.context("the configuration stays as it was")
                }
                None => Ok(()),
            };
            let done = match swapped {
                Ok(()) if renewed || !scanned.changed => Ok(()),
                other => {
                    if let (Err(_), Some(undo)) = (&other, undo) {
                        self.loader.undo(undo);
                        settled = self.loader.scan().await.settled;
                    }
                    complain(other);
                    self.swap(None).await.context("what served before serves on")
                }
            };
            complain(done);
            if hung_up {
                notify::ready();
            }
        }
    }

    /// Writes down what the next start wants to know.
    pub(super) async fn close(self) {
        for named in self.assembly.quotas() {
            named.close().await;
        }
    }

    /// Builds a generation and a site of what is loaded, beside those that serve, and swaps them
    /// in; with a new configuration only where no mount is lost by it.
    async fn swap(&mut self, mut new: Option<(Assembly, Config)>) -> Result<()> {
        let assembly = match &mut new {
            Some((assembly, _)) => assembly,
            None => &mut self.assembly,
        };
        let plans = assembly.plans(&self.loader.plugins());
        let page = self.pages.metrics(assembly);
        let specs: Vec<_> = plans.iter().map(|plan| plan.spec.clone()).collect();
        let generation = self.loader.build(&specs).await;
        let losses = generation.losses(&self.current.load().generation);
        if new.is_some() && !losses.is_empty() {
            return Err(anyhow!("{}", losses.join("; ")));
        }
        let config = new.as_ref().map_or(&self.config, |(_, config)| config);
        let (schedules, problems) = schedules::plan(config, &generation).await;
        if new.is_some() && !problems.is_empty() {
            return Err(anyhow!("{}", problems.join("; ")));
        }
        let mounts = generation.mounts.iter().zip(&plans).map(|(mount, plan)| {
            let handler: Arc<dyn Handler> = mount.clone();
            (handler, plan.access.clone())
        });
        let site = Site::new(mounts.chain(page), &self.metrics)?;
        if let Some((assembly, config)) = new {
            (self.assembly, self.config) = (assembly, config);
            complain(self.assembly.change_quotas().await.context("the limits stay as they were"));
        }
        let generation = self.loader.adopt(generation);
        let stores = self.assembly.store_status();
        let quotas = self.assembly.quotas().cloned().collect();
        problems.iter().for_each(|problem| tracing::error!("{problem}"));
        if let Some(jobs) = &self.jobs {
            complain(jobs.set_schedules(schedules).await.context("schedules"));
        }
        let current = Current { generation, stores, quotas, problems };
        let (number, mounts) = (current.generation.number, current.generation.mounts.len());
        let refused = current.generation.refused.len();
        self.current.store(Arc::new(current));
        self.site.store(Arc::new(site));
        // Last: whoever reads this finds what it says.
        tracing::info!(generation = number, mounts, refused, "serving");
        Ok(())
    }

    /// The configuration as it is now, with what it names opened; none without a file.
    async fn load(&self) -> Result<Option<(Assembly, Config)>> {
        let Some(config) = self.source.load()? else { return Ok(None) };
        let jobs = self.jobs.clone();
        Ok(Some((Assembly::new(&config, Some(&self.assembly), jobs).await?, config)))
    }

    /// Reads certificates and users again, opens the log of requests anew, and reads the
    /// configuration, which is given back where it can be used.
    async fn read_again(&self) -> Option<(Assembly, Config)> {
        notify::reloading();
        tracing::info!("reloading certificates, users and configuration");
        for tls in &self.tls {
            if let Err(error) = tls.reload() {
                tracing::error!("the certificate stays as it was: {error}");
            }
        }
        for users in self.assembly.users() {
            if let Err(error) = users.reload() {
                tracing::error!("the users stay as they were: {error}");
            }
        }
        if let Some(log) = &self.access_log {
            // It says itself what went wrong.
            let _ = log.reopen();
        }
        let loaded = self.load().await.context("the configuration stays as it was");
        let (assembly, config) = loaded.unwrap_or_else(|error| {
            complain(Err(error));
            None
        })?;
        if config.listener != self.config.listener
            || config.admin != self.config.admin
            || config.plugin_dir != self.config.plugin_dir
            || config.data_dir != self.config.data_dir
            || config.timeouts != self.config.timeouts
            || config.log != self.config.log
            || config.jobs != self.config.jobs
        {
            tracing::warn!(
                "listeners, logs, [jobs], time limits of connections, and the folders of plugins and \
                 data change at the next start"
            );
        }
        Some((assembly, config))
    }
}

fn complain(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!("{}", crate::explain(&error));
    }
}
