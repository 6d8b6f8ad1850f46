//! The time from a new plugin file to serving it: in this process, with and without cached code, and in a
//! running gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepgate_runtime::Loader;
use keepgate_store::memory::MemoryStore;
use keepgate_store::{BlobStore, Body, Key, PutOptions};

use crate::blobs::Blob;
use crate::load::Request;
use crate::plugin::{millis, request, spec};
use crate::servers::{Peer, Server};
use crate::table::{Aim, Row};
use crate::transfers::SMALL;
use crate::{Bench, Section};

/// How often the gateway is asked whether it serves the new file.
const ASK: Duration = Duration::from_millis(1);
/// The time limit for that.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures loading.
pub(crate) async fn loading(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("from a whole new plugin file to its first answer");
    let file = bench.site.plugins.join("restic.wasm");
    let wasm = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let size = wasm.len() as f64 / 1024.0;
    section.rows.push(Row::alone("size of the component", "KiB", size));
    let (mut compiled, mut kept) = (Vec::new(), Vec::new());
    for round in 0..=bench.scale.rounds {
        let folder = tempfile::tempdir_in(&bench.site.scratch)?;
        let (plugins, code) = (folder.path().join("plugins"), folder.path().join("code"));
        std::fs::create_dir(&plugins)?;
        std::fs::write(plugins.join("restic.wasm"), variant(&wasm, round))?;
        for times in [&mut compiled, &mut kept] {
            let took = load(&plugins, &code).await?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    section.rows.push(Row::alone("in process, compiled", "ms", millis(&compiled)));
    section.rows.push(Row::alone("in process, compiled code kept", "ms", millis(&kept)));
    let times = replaced(bench, &wasm).await?;
    let row = Row::alone("in a gateway, renamed into its folder", "ms", millis(&times));
    section.rows.push(row.aim(Aim::AtMost(300.0)));
    Ok(section)
}

/// The same component with another digest, due to a meaningless custom section at its end.
fn variant(wasm: &[u8], number: usize) -> Vec<u8> {
    let content = format!("\x05bench{number:08}");
    let length = u8::try_from(content.len()).unwrap_or(0);
    [wasm, &[0, length], content.as_bytes()].concat()
}

/// Loads the plugins of a folder, up to the first response. The engine is created before the measurement.
async fn load(plugins: &Path, code: &Path) -> Result<Duration> {
    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let blob = Blob::make(1, SMALL)?.pop().context("no blob")?;
    let key = Key::new(format!("data/{}/{}", blob.id.get(..2).unwrap_or_default(), blob.id))?;
    store.put(&key, Body::from_bytes(blob.parts().concat()), PutOptions::default()).await?;
    let metrics = Arc::new(keepgate_runtime::Metrics::new(&prometheus::Registry::new())?);
    let mut loader = Loader::new(plugins, Some(code), metrics)?;
    let specs = [spec("/", false, &store)];
    let begun = Instant::now();
    loader.scan().await;
    let generation = loader.generation(&specs).await;
    let mount = generation.mounts.first().context("no mount")?;
    let reply = mount.call(request(&blob.id)).await?;
    let took = begun.elapsed();
    ensure!(reply.status == 200, "the plugin answers {}", reply.status);
    Ok(took)
}

/// Installs one version of the plugin after another in a running gateway. The file is removed before each, and
/// the mount responds with an error until the new version serves.
async fn replaced(bench: &Bench, wasm: &[u8]) -> Result<Vec<Duration>> {
    let folder = tempfile::tempdir_in(&bench.site.scratch)?;
    let settings = "[store.main]\npath = STORE\n[[mount]]\npath = \"/\"\nplugin = \"restic\"\n\
                    auth = [\"none\"]\nstores = { main = \"main\" }\n";
    let programs = bench.programs.iter();
    let mut programs = programs.filter(|program| program.peer == Peer::Keepgate);
    let keepgate = programs.next().context("no program keepgate was given")?;
    let server = keepgate.keepgate_with(&bench.site, folder.path(), settings, false)?;
    let file = folder.path().join("restic.wasm");
    let mut times = Vec::new();
    for round in 0..=bench.scale.rounds {
        // Without an atomic rename, the gateway might see a half-copied file.
        let ready = folder.path().join("restic.new");
        std::fs::write(&ready, variant(wasm, 1000 + round))?;
        let begun = Instant::now();
        std::fs::rename(ready, &file)?;
        wait(&server, true).await?;
        if round > 0 {
            times.push(begun.elapsed());
        }
        std::fs::remove_file(&file)?;
        wait(&server, false).await?;
    }
    Ok(times)
}

/// Asks until the plugin responds, or until it no longer does.
async fn wait(server: &Server, answers: bool) -> Result<()> {
    let begun = Instant::now();
    // The plugin responds with 404, the host without a plugin with 503.
    let request = Request::head("/config");
    loop {
        let status = request.once(&server.target, |_| ()).await?;
        if (status < 500) == answers {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "the gateway answers {status} all the time");
        tokio::time::sleep(ASK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_whole_components_of_their_own() {
        let component = b"\0asm\x0d\0\x01\0";
        let (one, two) = (variant(component, 1), variant(component, 2));
        assert_ne!(one, two);
        // A section: its id, its length and its bytes.
        let (section, rest) = (&one[8..10], &one[10..]);
        assert_eq!((section[0], usize::from(section[1])), (0, rest.len()));
        assert_eq!((usize::from(rest[0]), &rest[1..6]), (5, b"bench".as_slice()));
    }
}
