//! The cost of the plugin in a request: HEAD of a blob in memory, handled by native code, by a fresh instance
//! of restic's plugin and by a warm one, both without and with sockets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use keepgate_auth::Access;
use keepgate_core::{CallError, Failure, Reply, Request};
use keepgate_http::{
    Gateway, Handler, ListenerConfig, LocalAddress, Server, Shutdown, Site, Timeouts,
};
use keepgate_runtime::capability::blobs::{StoreGrant, Stores};
use keepgate_runtime::{Grants, Limits, Loader, Mount, MountSpec};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{BlobStore, Body, Key, PutOptions};

use crate::blobs::Blob;
use crate::client::Target;
use crate::load::{Plan, Request as HttpRequest};
use crate::measure::{Round, Series, median, percentile};
use crate::servers::Peer;
use crate::table::{Aim, Better, Row};
use crate::transfers::SMALL;
use crate::{Bench, Section};

/// The number of consecutive calls of one handler.
const BLOCK: usize = 500;

/// A native handler that does what restic's plugin does for HEAD of a blob.
struct Native {
    store: Arc<dyn BlobStore>,
}

impl Native {
    async fn answer(&self, request: Request) -> Result<Reply, CallError> {
        let failed = |failure| CallError::Failure(failure);
        let [kind, id] = request.path.as_slice() else { return Err(failed(Failure::NotFound)) };
        let digits = id.get(..2).unwrap_or_default();
        let key = Key::new(format!("{kind}/{digits}/{id}"));
        let key = key.map_err(|_| failed(Failure::NotFound))?;
        let info = self.store.head(&key).await.map_err(|_| failed(Failure::NotFound))?;
        let headers = vec![("content-length".to_owned(), info.size.to_string())];
        Ok(Reply { status: 200, headers, body: Body::empty() })
    }
}

impl Handler for Native {
    fn path(&self) -> &str {
        "/native"
    }

    fn plugin(&self) -> &str {
        "native"
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(self.answer(request))
    }
}

/// The three handlers, in the order native, fresh, warm.
type Handlers = [Arc<dyn Handler>; 3];

const NAMES: [&str; 3] = ["native", "fresh instance", "warm instance"];

/// Measures the cost without and with sockets.
pub(crate) async fn share(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("the plugin's share of a request (HEAD of a blob in memory)");
    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let blob = Blob::make(1, SMALL)?.pop().context("no blob")?;
    let key = Key::new(format!("data/{}/{}", blob.id.get(..2).unwrap_or_default(), blob.id))?;
    store.put(&key, Body::from_bytes(blob.parts().concat()), PutOptions::default()).await?;
    let [fresh, warm] = mounts(&bench.site.plugins, &store).await?;
    let handlers: Handlers = [Arc::new(Native { store }), fresh, warm];
    in_process(bench, &handlers, &blob.id, &mut section).await?;
    over_sockets(bench, &handlers, &blob.id, &mut section).await?;
    Ok(section)
}

/// restic's plugin, mounted twice.
async fn mounts(plugins: &Path, store: &Arc<dyn BlobStore>) -> Result<[Arc<Mount>; 2]> {
    let metrics = Arc::new(keepgate_runtime::Metrics::new(&prometheus::Registry::new())?);
    let mut loader = Loader::new(plugins, None, metrics)?;
    loader.scan().await;
    let specs = [("/fresh", false), ("/warm", true)].map(|(path, warm)| spec(path, warm, store));
    let generation = loader.generation(&specs).await;
    if let Some(refused) = generation.refused.first() {
        return Err(anyhow!("{}: {}", refused.what, refused.why));
    }
    let mounts = generation.mounts.clone();
    mounts.try_into().map_err(|_| anyhow!("expected two mounts"))
}

/// A mount of restic's plugin.
pub(crate) fn spec(path: &str, warm: bool, store: &Arc<dyn BlobStore>) -> Arc<MountSpec> {
    let grant: Arc<dyn StoreGrant> = Arc::new(store.clone());
    let stores = BTreeMap::from([("main".to_owned(), grant)]);
    Arc::new(MountSpec {
        place: None,
        path: path.to_owned(),
        plugin: "restic".to_owned(),
        settings: serde_json::Map::new(),
        grants: Grants::default().with(Stores(stores)),
        limits: Limits::default(),
        warm,
    })
}

/// The request for HEAD of a blob, as the host passes it to the plugin.
pub(crate) fn request(id: &str) -> Request {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: "HEAD".to_owned(),
        base: "http://localhost".to_owned(),
        target: format!("/data/{id}"),
        address: None,
        id: "bench".to_owned(),
        path: vec!["data".to_owned(), id.to_owned()],
        trailing_slash: false,
        query: Vec::new(),
        headers: vec![
            header("host", "localhost"),
            header("user-agent", "keepgate-bench"),
            header("accept", "application/vnd.x.restic.rest.v2"),
        ],
        principal: None,
        body: Body::empty(),
        interim: None,
    }
}

async fn in_process(
    bench: &Bench,
    handlers: &Handlers,
    id: &str,
    section: &mut Section,
) -> Result<()> {
    let mut times = [const { Vec::new() }; 3];
    for block in 0..=bench.scale.calls / BLOCK {
        for (handler, times) in handlers.iter().zip(&mut times) {
            for _ in 0..BLOCK {
                let request = request(id);
                let begun = Instant::now();
                let reply = handler.call(request).await?;
                let took = begun.elapsed();
                ensure!(reply.status == 200, "{} answers {}", handler.plugin(), reply.status);
                if block > 0 {
                    times.push(took.as_secs_f64() * 1e6);
                }
            }
        }
    }
    let mut native = None;
    for (name, mut times) in NAMES.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let (middle, tail) = (percentile(&times, 0.5), percentile(&times, 0.99));
        section.rows.push(Row::alone(format!("{name}, median"), "µs", middle));
        section.rows.push(Row::alone(format!("{name}, 99th percentile"), "µs", tail));
        match native {
            None => native = Some(middle),
            Some(native) => {
                let limit = if name == "warm instance" { 10.0 } else { 25.0 };
                let row = Row::alone(format!("share of a {name}"), "µs", middle - native);
                section.rows.push(row.aim(Aim::AtMost(limit)));
            }
        }
    }
    Ok(())
}

/// The same over HTTP, served by separate threads of this process.
async fn over_sockets(
    bench: &Bench,
    handlers: &Handlers,
    id: &str,
    section: &mut Section,
) -> Result<()> {
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(keepgate_http::Metrics::new(&registry)?);
    let open = Arc::new(Access::Open);
    let mounts = handlers.iter().map(|handler| (handler.clone(), open.clone()));
    let site = Site::new(mounts, &metrics)?;
    let site = Arc::new(ArcSwap::from_pointee(site));
    let gateway = Arc::new(Gateway::new(site, metrics, Timeouts::default()));
    let shutdown = Shutdown::new();
    let threads = Threads(Some(tokio::runtime::Builder::new_multi_thread().enable_all().build()?));
    let runtime = threads.0.as_ref().context("no threads")?;
    let config = ListenerConfig::new("127.0.0.1:0".parse()?);
    let server = runtime.spawn(async { Server::bind(config).await }).await??;
    let LocalAddress::Tcp(address) = *server.local_address() else {
        return Err(anyhow!("not listening on TCP"));
    };
    let target = Target { address, tls: None };
    let serving = {
        let shutdown = shutdown.clone();
        runtime.spawn(async move { server.serve(gateway, &shutdown).await })
    };
    for clients in [1, 8] {
        let mut all = NAMES.map(|_| Series { peer: Peer::Keepgate, rounds: Vec::new() });
        for round in 0..=bench.scale.rounds {
            for (handler, series) in handlers.iter().zip(&mut all) {
                let path = format!("{}/data/{id}", handler.path());
                let requests = [HttpRequest::head(&path)];
                let plan =
                    Plan { requests: &requests, once: false, clients, time: bench.scale.small };
                let measured = plan.run_against(&target, None).await?;
                if round > 0 {
                    series.rounds.push(measured);
                }
            }
        }
        let each = |round: &Round| round.seconds * 1e6 / round.requests as f64;
        for (name, series) in NAMES.into_iter().zip(all) {
            let name = format!("over http, {clients} clients, {name}");
            let one = [series];
            section.rows.push(Row::medians(&name, "µs/req", Better::Less, &one, each));
            section.keep(name, one.into());
        }
    }
    shutdown.begin();
    shutdown.cut();
    serving.await?;
    Ok(())
}

/// Separate threads for a server in this process.
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // This is dropped inside another async runtime, where waiting is not allowed.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The median of some durations, in milliseconds.
pub(crate) fn millis(times: &[Duration]) -> f64 {
    median(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
}
