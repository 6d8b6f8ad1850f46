//! The running gateway: binds listeners and builds the first table of mounts, handles signals, and
//! shuts down.
//!
//! | module | purpose |
//! | --- | --- |
//! | `listeners` | sockets and certificates |
//! | `reload` | the one task that changes what serves |
//! | `candidate` | a new table of mounts, until it serves |
//! | `expiry` | removes blobs that have expired |
//! | `pages` | what operators see |
//! | `notify` | status messages to systemd |

mod candidate;
mod expiry;
mod listeners;
mod notify;
mod pages;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use keepgate_http::{
    Admin, CombinedLog, Gateway, LocalAddress, LogTarget, Metrics, RecordLimits, Recorder, Server,
    Shutdown, Site,
};
use keepgate_jobs::Jobs;
use keepgate_runtime::{Generation, JobRunner, Loader, Watch};
use keepgate_store::quota::Usage;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::assemble::{Assembly, SystemMetrics};
use crate::certificates::{CertificateMetrics, Certificates};
use crate::clock::GatewayClock;
use crate::compiler;
use crate::config::Config;
use crate::config::capability::OwnState;
use crate::copies::CopyRunner;
use crate::heap;
use candidate::{Configuration, Published};
use listeners::{bind, bind_admin};
use pages::{Current, Pages};
use reload::{ReloadedFiles, Reloader};

/// How often the plugin folder is scanned without an event.
const RESCAN: Duration = Duration::from_secs(10);

/// A gateway with its listeners bound and its first generation loaded.
pub(crate) struct Running {
    servers: Vec<Server>,
    admin: Option<Server>,
    gateway: Arc<Gateway>,
    admin_pages: Arc<Admin>,
    jobs: Option<(Arc<Jobs>, Arc<CopyRunner>)>,
    reloader: Reloader,
    signals: Signals,
    certificates: Arc<Certificates>,
}

/// The signals that the gateway handles. They are caught before anybody can know that it serves: a
/// signal that arrives as soon as it does must not kill it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Completes when the gateway is to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The gateway was told to stop before it served anything. That is no failure.
#[derive(Debug, thiserror::Error)]
#[error("stopped before anything was served")]
pub(crate) struct StoppedEarly;

/// Where the configuration comes from; SIGHUP reads it again.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// `None` if the flags of `rest-server` are the configuration.
    pub(crate) file: Option<PathBuf>,
    /// Overrides the address of the first listener.
    pub(crate) listen: Option<String>,
    /// Overrides the plugin folder.
    pub(crate) plugins: Option<PathBuf>,
    /// Where requests and responses are recorded, and how much of them.
    pub(crate) record: Option<(PathBuf, RecordLimits)>,
}

impl Source {
    /// Reads the file; `None` if there is none.
    pub(crate) fn load(&self) -> Result<Option<Config>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut config = Config::load(file)?;
        if let Some(listen) = &self.listen {
            config.listen_at(listen)?;
        }
        if let Some(plugins) = &self.plugins {
            config.plugin_dir.clone_from(plugins);
        }
        Ok(Some(config))
    }
}

impl Running {
    /// Opens stores, loads plugins, binds listeners: everything that can fail.
    pub(crate) async fn start(config: Config, source: Source) -> Result<Self> {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let runtime_metrics = Arc::new(keepgate_runtime::Metrics::new(&registry)?);
        let log = config.log.access.clone().map(LogTarget::from);
        let access_log = log.map(CombinedLog::open).transpose()?;
        let (mut servers, mut all_tls) = (Vec::new(), Vec::new());
        for listener in &config.listener {
            let (server, tls) = bind(&config, listener).await?;
            servers.push(server);
            all_tls.extend(tls);
        }
        let certificates = Certificates::new(all_tls.clone(), &config);
        certificates.log();
        registry.register(Box::new(CertificateMetrics::new(certificates.clone())?))?;
        let admin = match &config.admin {
            Some(admin) => Some(bind_admin(&config, admin).await?),
            None => None,
        };
        let own = OwnState::open(&config).await?;
        if let Some(clock) = &own.clock {
            clock.register(&registry)?;
        }
        if let Some(jobs) = &own.jobs {
            registry.register(Box::new(keepgate_jobs::metrics(jobs.clone())))?;
        }
        if let Some(records) = &own.records {
            registry.register(keepgate_records::metrics(records)?)?;
        }
        let systems = SystemMetrics::new(&registry)?;
        let assembly = Assembly::new(&config, None, own.clone(), &systems).await?;
        let code = config.data_dir.join("code");
        let loader = Loader::new(&config.plugin_dir, Some(&code), runtime_metrics.clone())?
            .with_trust(assembly.trust.clone())
            .with_only(config.only_plugins())
            .with_memory(config.plugin_memory())
            .with_compiler(compiler::process())
            .with_patience(reload::SCAN);
        let watch = Watch::new(&config.plugin_dir, RESCAN);
        let site = Arc::new(ArcSwap::from_pointee(Site::default()));
        let current = Arc::new(ArcSwap::from_pointee(Current::default()));
        let mut gateway = Gateway::new(site.clone(), metrics.clone(), config.timeouts.to_http());
        if let Some(log) = &access_log {
            gateway = gateway.with_access_log(log.clone());
        }
        if let Some((folder, limits)) = &source.record {
            gateway = gateway.with_recorder(Recorder::open(folder, *limits)?);
            tracing::warn!(folder = %folder.display(), "recording requests and responses");
        }
        let pages = Pages::new(&registry, &runtime_metrics, &current)?;
        let listeners = servers.iter().flat_map(Server::local_addresses).map(ToString::to_string);
        let execution = loader.execution();
        let admin_pages = pages.admin(&current, execution, listeners.collect(), own.jobs.as_ref());
        let runner = {
            let (generations, copies) = (current.clone(), current.clone());
            let plugins = JobRunner::new(move || generations.load().generation.clone());
            CopyRunner::new(plugins, move || copies.load().copies.clone())
        };
        let mut reloader = Reloader {
            source,
            watch,
            loader,
            active: Configuration { config, assembly },
            published: Published {
                site,
                current,
                metrics,
                plugins: runtime_metrics,
                pages,
                own: own.clone(),
                systems,
            },
            files: ReloadedFiles { tls: all_tls, access_log, certificates: certificates.clone() },
        };
        let mut signals = Signals::catch()?;
        // Plugins may take long to compile, and dropping this ends that.
        tokio::select! {
            published = reloader.first() => published?,
            () = signals.stop() => return Err(StoppedEarly.into()),
        }
        let gateway = Arc::new(gateway);
        let jobs = own.jobs.map(|jobs| (jobs, Arc::new(runner)));
        Ok(Self { servers, admin, gateway, admin_pages, jobs, reloader, signals, certificates })
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> Vec<LocalAddress> {
        self.servers.iter().flat_map(Server::local_addresses).cloned().collect()
    }

    /// The generation that serves.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.reloader.published.current.load().generation.clone()
    }

    /// How full the quotas are.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let quotas = self.reloader.active.assembly.quotas();
        quotas.flat_map(|named| named.quota.usage()).collect()
    }

    /// Serves until SIGINT or SIGTERM, then lets in-flight requests finish. A second signal cancels
    /// them.
    pub(crate) async fn run(self) -> Result<()> {
        let shutdown = Shutdown::new();
        let mut tasks = tokio::task::JoinSet::new();
        for server in self.servers {
            let (gateway, shutdown) = (self.gateway.clone(), shutdown.clone());
            tasks.spawn(async move { server.serve(gateway, &shutdown).await });
        }
        if let Some(admin) = self.admin {
            let (pages, shutdown) = (self.admin_pages, shutdown.clone());
            tasks.spawn(async move { admin.serve(pages, &shutdown).await });
        }
        // Jobs stop after requests, so that a request that waits for its job gets its response.
        let (stop_jobs, jobs_stopped) = oneshot::channel::<()>();
        let jobs = self.jobs.map(|(jobs, runner)| {
            tokio::spawn(async move { jobs.run(runner, async { drop(jobs_stopped.await) }).await })
        });
        let Signals { mut interrupt, mut terminate, hangup } = self.signals;
        let (stop, stopped) = oneshot::channel();
        let topics = self.reloader.published.own.topics.clone();
        let clock = self.reloader.published.own.clock.clone();
        let keeping = clock.clone().map(GatewayClock::keep).map(tokio::spawn);
        let expiring = expiry::run(self.reloader.published.current.clone());
        let plugin_memory = self.reloader.loader.plugin_memory();
        let reloading = tokio::spawn(self.reloader.run(hangup, stopped));
        let daily = tokio::spawn(self.certificates.log_daily());
        let expiring = tokio::spawn(expiring);
        let heap = tokio::spawn(heap::give_back_what_is_freed(plugin_memory));
        notify::ready();
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(ended) => {
                        ended?;
                        continue;
                    }
                },
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if shutdown.has_begun() {
                tracing::warn!("second signal; cancelling in-flight requests");
                shutdown.cut();
            } else {
                tracing::info!("shutting down; waiting for in-flight requests");
                notify::stopping();
                shutdown.begin();
                // Requests that wait for news would go on until they reach their limit in time.
                topics.close();
            }
        }
        daily.abort();
        if let (Some(clock), Some(keeping)) = (clock, keeping) {
            keeping.abort();
            candidate::log_error(clock.save().await.context("cannot keep the clock"));
        }
        heap.abort();
        expiring.abort();
        drop(stop_jobs);
        if let Some(jobs) = jobs {
            jobs.await?;
        }
        drop(stop);
        reloading.await?.close().await;
        tracing::info!("shut down cleanly");
        Ok(())
    }
}
