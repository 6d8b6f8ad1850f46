//! Files that are being loaded. Several are loaded side by side, each in a task of its own, so that one that takes long
//! holds up neither the others nor whoever waits for the loader.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Loaded;
use crate::error::LoadError;
use crate::folder::{Contents, Stamp, Stamps, shown};
use crate::load::{LoadContext, Plugin};
use crate::trust::Trust;

/// How often the log says that a file is still being loaded.
const NOTICE: Duration = Duration::from_secs(10);

/// The files that are being loaded.
#[derive(Default)]
pub(super) struct LoadingFiles {
    files: BTreeMap<PathBuf, Loading>,
}

struct Loading {
    stamps: Stamps,
    /// How long the file may look incomplete.
    patience: Duration,
    since: Instant,
    told: Instant,
    task: AbortOnDropHandle<Result<Loaded, LoadError>>,
}

/// A file that has been loaded or refused.
pub(super) struct Done {
    pub(super) path: PathBuf,
    pub(super) stamps: Stamps,
    pub(super) patience: Duration,
    pub(super) result: Result<Loaded, LoadError>,
}

/// What loading a file starts from.
pub(super) struct Start {
    pub(super) stamps: Stamps,
    pub(super) contents: Contents,
    pub(super) patience: Duration,
    /// What is loaded of the file already. It stays the same if only its signature or the rules have changed.
    pub(super) known: Option<Loaded>,
}

impl LoadingFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether this very file is being loaded.
    pub(super) fn has(&self, path: &Path, stamps: Stamps) -> bool {
        self.files.get(path).is_some_and(|loading| loading.stamps == stamps)
    }

    /// Since when a file is being loaded.
    pub(super) fn since(&self, path: &Path) -> Option<Instant> {
        self.files.get(path).map(|loading| loading.since)
    }

    /// Their paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Stops loading a file.
    pub(super) fn stop(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Stops loading the files that are not wanted any more.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&Path) -> bool) {
        self.files.retain(|path, _| wanted(path));
    }

    /// Starts to load a file, instead of what it contained before.
    pub(super) fn start(
        &mut self,
        context: &LoadContext,
        trust: &Trust,
        path: &Path,
        start: Start,
    ) {
        let Start { stamps, contents, patience, known } = start;
        let (context, trust, file) = (context.clone(), trust.clone(), path.to_owned());
        let task = tokio::spawn(async move {
            load(&context, trust, &file, stamps.component, contents, known).await
        });
        let (since, task) = (Instant::now(), AbortOnDropHandle::new(task));
        let loading = Loading { stamps, patience, since, told: since, task };
        self.files.insert(path.to_owned(), loading);
    }

    /// The next file that is done; `None` if none is, within this time.
    pub(super) async fn next(&mut self, within: Duration) -> Option<Done> {
        let first = poll_fn(|context| {
            let polled = self.files.iter_mut().find_map(|(path, loading)| {
                match Pin::new(&mut loading.task).poll(context) {
                    Poll::Ready(done) => Some((path.clone(), done)),
                    Poll::Pending => None,
                }
            });
            polled.map_or(Poll::Pending, Poll::Ready)
        });
        let Ok((path, done)) = timeout(within, first).await else {
            self.tell();
            return None;
        };
        let result = done.unwrap_or_else(|error| Err(LoadError::Engine(error.to_string())));
        let Loading { stamps, patience, .. } = self.files.remove(&path)?;
        Some(Done { path, stamps, patience, result })
    }

    /// Logs what takes long.
    fn tell(&mut self) {
        for (path, loading) in &mut self.files {
            if loading.told.elapsed() >= NOTICE {
                loading.told = Instant::now();
                let seconds = loading.since.elapsed().as_secs();
                tracing::warn!(file = %shown(path), seconds, "plugin is still being compiled");
            }
        }
    }
}

/// Loads the plugin of a file. If the file is the same as before, and only its signature or the rules
/// of trust have changed, the plugin stays the same.
async fn load(
    context: &LoadContext,
    trust: Trust,
    path: &Path,
    from: Stamp,
    contents: Contents,
    known: Option<Loaded>,
) -> Result<Loaded, LoadError> {
    let Contents { component, signature } = contents;
    let file = path.to_owned();
    let vetting =
        tokio::task::spawn_blocking(move || trust.vet(&file, component, signature.as_deref()));
    let vetted = vetting.await.map_err(|error| LoadError::Engine(error.to_string()))?;
    let vetted = vetted.map_err(LoadError::Untrusted)?;
    let decision = vetted.decision.clone();
    let plugin = match known {
        Some(known) if known.from.same_file(from) && known.plugin.digest == vetted.digest => {
            known.plugin
        }
        _ => Plugin::load(context, path, vetted).await?,
    };
    Ok(Loaded { plugin, from, decision })
}
