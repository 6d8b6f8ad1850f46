//! A loader over a folder of components, mounts, and requests, for the tests of this folder.

use super::*;

/// A folder of plugins with a loader.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) code: tempfile::TempDir,
    pub(crate) loader: Loader,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: prometheus::Registry,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (folder, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::new(&registry).unwrap());
        let loader = Loader::new(folder.path(), Some(code.path()), metrics.clone()).unwrap();
        Self { folder, code, loader, metrics, registry }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let hidden = self.file(".new");
        fs::write(&hidden, bytes).unwrap();
        fs::rename(hidden, self.file(name)).unwrap();
    }

    /// Scans until no file is incomplete.
    pub(crate) async fn scan(&mut self) {
        while !self.loader.scan().await.settled {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn generation(&mut self, specs: &[Arc<MountSpec>]) -> Arc<Generation> {
        self.scan().await;
        self.loader.generation(specs).await
    }

    /// The sum of all series of a counter, if a page would show it.
    pub(crate) fn counted(&self, name: &str) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum())
    }

    /// One mount of the hostile guest.
    pub(crate) async fn hostile(&mut self, change: impl FnOnce(&mut MountSpec)) -> Arc<Mount> {
        self.put("hostile.wasm", &guest("hostile"));
        let spec = spec("/", "hostile", change);
        self.generation(&[spec]).await.mounts[0].clone()
    }
}

pub(crate) fn guest(name: &str) -> Vec<u8> {
    component("KEEPGATE_GUEST_DIR", name)
}

pub(crate) fn restic() -> Vec<u8> {
    component("KEEPGATE_PLUGIN_DIR", "restic")
}

pub(crate) fn component(variable: &str, name: &str) -> Vec<u8> {
    let folder = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
    fs::read(Path::new(&folder).join(format!("{name}.wasm"))).unwrap()
}

pub(crate) fn spec(
    path: &str,
    plugin: &str,
    change: impl FnOnce(&mut MountSpec),
) -> Arc<MountSpec> {
    let mut spec = MountSpec {
        place: None,
        path: path.to_owned(),
        plugin: plugin.to_owned(),
        settings: serde_json::Map::new(),
        grants: Grants::default(),
        limits: Limits { cpu: Duration::from_millis(300), ..Limits::default() },
        warm: false,
    };
    change(&mut spec);
    Arc::new(spec)
}

pub(crate) fn grant_store(spec: &mut MountSpec, store: impl StoreGrant) {
    spec.grants.update::<Stores>(|stores| {
        stores.0.insert("main".to_owned(), Arc::new(store));
    });
}

pub(crate) fn with_store(spec: &mut MountSpec) -> Arc<dyn BlobStore> {
    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    grant_store(spec, store.clone());
    store
}

pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> Request {
    let mut segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    let trailing_slash = segments.last().is_some_and(String::is_empty);
    if trailing_slash {
        segments.pop();
    }
    Request {
        method: method.to_owned(),
        base: "http://backup:8000".to_owned(),
        target: path.to_owned(),
        address: None,
        id: "test-1".to_owned(),
        path: segments,
        trailing_slash,
        query: Vec::new(),
        headers: Vec::new(),
        principal: Some(Principal {
            name: "ann".to_owned(),
            method: "test".into(),
            claims: Vec::new(),
        }),
        body: Body::from_bytes(body.to_vec()),
        interim: None,
    }
}

pub(crate) async fn get(mount: &Mount, path: &str) -> Result<Reply, CallError> {
    mount.call(request("GET", path, b"")).await
}

pub(crate) async fn text(reply: Reply) -> String {
    String::from_utf8(reply.body.collect(1 << 24).await.unwrap().to_vec()).unwrap()
}

/// Grants something empty for whatever the loaded plugins request and the mount does not grant yet.
pub(crate) fn grant_the_rest(spec: &mut MountSpec, loader: &Loader) {
    for plugin in loader.plugins() {
        stand_in(&plugin.description.requests, &mut spec.grants);
    }
}
