//! The gateway at work: listeners, the one task that reloads, signals, the end.
//!
//! Only the reloading task changes what serves: it looks at the plugin folder when something
//! happened there, reads the configuration again on SIGHUP, builds a new table beside the old one
//! and swaps it in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use arc_swap::ArcSwap;
use keepgate_http::{
    Address, Admin, Gateway, Handler, ListenerConfig, LocalAddress, Metrics, Server, Shutdown,
    Site, Tls,
};
use keepgate_runtime::{Generation, Loader, Watch};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::assemble::{Assembly, load_tls};
use crate::config::{self, Config};

/// How often the plugin folder is looked at without an event.
const RESCAN: Duration = Duration::from_secs(10);
/// How soon it is looked at again while a file is on its way.
const SOON: Duration = Duration::from_millis(100);

/// A gateway with its listeners bound and its first generation loaded.
pub(crate) struct Running {
    servers: Vec<Server>,
    admin: Option<Server>,
    gateway: Arc<Gateway>,
    admin_pages: Arc<Admin>,
    reloader: Reloader,
    signals: Signals,
}

/// The signals that mean something. Caught before anybody can know that the gateway serves: one
/// that comes as soon as it does must not kill it.
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
}

/// What is served at the moment, for the status page.
struct Current {
    generation: Arc<Generation>,
    stores: Value,
}

/// Where the configuration comes from, to read it again on SIGHUP.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// None where the flags of `rest-server` are the configuration.
    pub(crate) file: Option<PathBuf>,
    /// Instead of the address of the first listener.
    pub(crate) listen: Option<String>,
    /// Instead of the plugin folder.
    pub(crate) plugins: Option<PathBuf>,
}

impl Source {
    /// What the file says now; none without a file.
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

/// Owns everything that a reload changes.
struct Reloader {
    source: Source,
    config: Config,
    assembly: Assembly,
    loader: Loader,
    watch: Watch,
    site: Arc<ArcSwap<Site>>,
    current: Arc<ArcSwap<Current>>,
    metrics: Arc<Metrics>,
    tls: Vec<Arc<Tls>>,
}

impl Running {
    /// Opens stores, loads plugins, binds listeners: whatever can fail fails here.
    pub(crate) async fn start(config: Config, source: Source) -> Result<Self> {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let assembly = Assembly::new(&config, None)?;
        let runtime_metrics = Arc::new(keepgate_runtime::Metrics::new(&registry)?);
        let code = config.data_dir.join("code");
        let loader = Loader::new(&config.plugin_dir, Some(&code), runtime_metrics)?;
        let watch = Watch::new(&config.plugin_dir, RESCAN);
        let (mut servers, mut all_tls) = (Vec::new(), Vec::new());
        for listener in &config.listener {
            let (server, tls) = bind(&config, listener).await?;
            servers.push(server);
            all_tls.extend(tls);
        }
        let admin = match &config.admin {
            Some(admin) => Some(bind_admin(&config, admin).await?),
            None => None,
        };
        let site = Arc::new(ArcSwap::from_pointee(Site::default()));
        let nothing =
            Generation { number: 0, mounts: Vec::new(), plugins: Vec::new(), refused: Vec::new() };
        let current = Arc::new(ArcSwap::from_pointee(Current {
            generation: Arc::new(nothing),
            stores: Value::Null,
        }));
        let gateway = Gateway::new(site.clone(), metrics.clone(), config.timeouts.to_http());
        let admin_pages = admin_pages(registry, &current, &servers);
        let mut reloader = Reloader {
            source,
            config,
            assembly,
            loader,
            watch,
            site,
            current,
            metrics,
            tls: all_tls,
        };
        while !reloader.loader.scan().await.settled {
            tokio::time::sleep(SOON).await;
        }
        let signals = Signals::catch()?;
        reloader.swap(None).await?;
        Ok(Self { servers, admin, gateway: Arc::new(gateway), admin_pages, reloader, signals })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Vec<LocalAddress> {
        self.servers.iter().map(|server| server.local_address().clone()).collect()
    }

    /// What serves now.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.reloader.current.load().generation.clone()
    }

    /// Serves until SIGINT or SIGTERM, then lets requests under way finish; a second signal cuts
    /// them off.
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
        let Signals { mut interrupt, mut terminate, hangup } = self.signals;
        let reloading = tokio::spawn(self.reloader.run(hangup));
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
                tracing::warn!("asked a second time: cutting what is under way");
                shutdown.cut();
            } else {
                tracing::info!("shutting down; requests under way may finish");
                shutdown.begin();
            }
        }
        reloading.abort();
        tracing::info!("shut down cleanly");
        Ok(())
    }
}

impl Reloader {
    async fn run(mut self, mut hangup: Signal) {
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
                signal = hangup.recv() => signal.is_some(),
            };
            let new = if hung_up { self.read_again() } else { None };
            let scanned = self.loader.scan().await;
            settled = scanned.settled;
            if let Some(new) = new {
                match self.swap(Some(new)).await {
                    Ok(()) => continue,
                    Err(error) => {
                        let error = crate::explain(&error);
                        tracing::error!("the configuration stays as it was: {error}");
                    }
                }
            }
            if scanned.changed
                && let Err(error) = self.swap(None).await
            {
                tracing::error!("what served before serves on: {}", crate::explain(&error));
            }
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
        let specs: Vec<_> = plans.iter().map(|plan| plan.spec.clone()).collect();
        let generation = self.loader.build(&specs).await;
        let losses = generation.losses(&self.current.load().generation);
        if new.is_some() && !losses.is_empty() {
            return Err(anyhow!("{}", losses.join("; ")));
        }
        let mounts = generation.mounts.iter().zip(&plans).map(|(mount, plan)| {
            let handler: Arc<dyn Handler> = mount.clone();
            (handler, plan.access.clone())
        });
        let site = Site::new(mounts, &self.metrics)?;
        if let Some((assembly, config)) = new {
            (self.assembly, self.config) = (assembly, config);
        }
        let generation = self.loader.adopt(generation);
        self.site.store(Arc::new(site));
        tracing::info!(
            generation = generation.number,
            mounts = generation.mounts.len(),
            refused = generation.refused.len(),
            "serving"
        );
        let stores = self.assembly.store_status();
        self.current.store(Arc::new(Current { generation, stores }));
        Ok(())
    }

    /// Reads certificates and users again, and the configuration, which is given back where it
    /// can be used. What cannot be used leaves what there was.
    fn read_again(&self) -> Option<(Assembly, Config)> {
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
        let loaded = self.source.load().and_then(|config| {
            let Some(config) = config else { return Ok(None) };
            Ok(Some((Assembly::new(&config, Some(&self.assembly))?, config)))
        });
        let (assembly, config) = match loaded {
            Ok(loaded) => loaded?,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {}", crate::explain(&error));
                return None;
            }
        };
        if config.listener != self.config.listener
            || config.admin != self.config.admin
            || config.plugin_dir != self.config.plugin_dir
            || config.timeouts != self.config.timeouts
        {
            tracing::warn!(
                "listeners, time limits of connections and the plugin folder change at the next start"
            );
        }
        Some((assembly, config))
    }
}

async fn bind(config: &Config, listener: &config::Listener) -> Result<(Server, Option<Arc<Tls>>)> {
    let address: Address = listener.address.get_ref().parse()?;
    let tls = listener.tls.as_ref().map(load_tls).transpose()?;
    let mut http = ListenerConfig::new(address);
    http.tls = tls.clone();
    http.timeouts = config.timeouts.to_http();
    if let Some(mode) = &listener.mode {
        let mode = config::octal(mode.get_ref());
        http.unix_mode = Some(mode.ok_or_else(|| anyhow!("the mode is no octal number"))?);
    }
    if let Some(most) = listener.max_connections {
        http.max_connections = most;
    }
    Ok((Server::bind(http).await?, tls))
}

async fn bind_admin(config: &Config, admin: &config::Admin) -> Result<Server> {
    let mut http = ListenerConfig::new(admin.address.get_ref().parse()?);
    http.timeouts = config.timeouts.to_http();
    http.unix_mode = Some(0o600);
    Server::bind(http).await.context("the admin listener")
}

fn admin_pages(
    registry: prometheus::Registry,
    current: &Arc<ArcSwap<Current>>,
    servers: &[Server],
) -> Arc<Admin> {
    let listeners: Vec<_> =
        servers.iter().map(|server| server.local_address().to_string()).collect();
    let readiness = {
        let current = current.clone();
        move || {
            let mounts = &current.load().generation.mounts;
            let problem = |mount: &Arc<keepgate_runtime::Mount>| {
                mount.serving().err().map(|why| format!("mount {}: {why}", mount.path()))
            };
            mounts.iter().filter_map(problem).collect()
        }
    };
    let current = current.clone();
    let status = move || {
        let current = current.load();
        let mut status = current.generation.status();
        if let Value::Object(status) = &mut status {
            status.insert("version".to_owned(), json!(crate::VERSION));
            status.insert("stores".to_owned(), current.stores.clone());
            status.insert("listeners".to_owned(), json!(listeners));
        }
        status
    };
    Arc::new(Admin::new(registry, readiness, status))
}
