//! Caches compiled code in the data folder, so that a restart does not compile again.
//!
//! The key is the component's digest and everything about the engine that compiled code depends on.
//! The folder is the gateway's own, never the plugin folder, where others can write.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compiler::{CompileError, Compiler};
use crate::engine::Host;
use crate::error::LoadError;

/// The most files; the oldest are removed.
const MAX_FILES: usize = 64;

/// A folder of compiled components. Without one, everything is compiled when it is loaded.
#[derive(Clone, Debug)]
pub(crate) struct CodeCache {
    folder: Option<PathBuf>,
}

impl CodeCache {
    /// Opens or creates the folder. If that fails, or if somebody else could write to the folder, there
    /// is no cache and the log says why.
    pub(crate) fn open(folder: Option<&Path>) -> Self {
        let folder = folder.and_then(|folder| match private_folder(folder) {
            Ok(()) => Some(folder.to_owned()),
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "cannot cache compiled code");
                None
            }
        });
        Self { folder }
    }

    /// Takes a component from the folder, or compiles it: with a compiler in a process of its own, or here.
    pub(crate) async fn compile(
        &self,
        host: &Host,
        compiler: Option<&Compiler>,
        wasm: Bytes,
        digest: &str,
    ) -> Result<Component, LoadError> {
        let path = self.folder.as_ref().map(|folder| folder.join(file_name(&host.engine, digest)));
        if let Some(path) = path.clone() {
            let engine = host.engine.clone();
            if let Some(component) = blocking(move || Ok(read(&engine, &path))).await? {
                return Ok(component);
            }
        }
        let made = match compiler {
            Some(compiler) => match compiler.compile(&wasm, host.execution).await {
                Ok(code) => Some(code),
                Err(CompileError::Refused(error)) => return Err(error),
                Err(CompileError::NotStarted(error)) => {
                    tracing::warn!(%error, "cannot start a process that compiles; compiling without limits");
                    None
                }
            },
            None => None,
        };
        let (cache, engine) = (self.clone(), host.engine.clone());
        blocking(move || {
            let Some(code) = made else {
                let component =
                    Component::from_binary(&engine, &wasm).map_err(LoadError::compile)?;
                if let Some(path) = path {
                    let code = component.serialize().map_err(|error| error.to_string());
                    cache.keep(&path, code);
                }
                return Ok(component);
            };
            let component = deserialize(&engine, &code).map_err(LoadError::compile)?;
            if let Some(path) = path {
                cache.keep(&path, Ok(code));
            }
            Ok(component)
        })
        .await
    }

    /// Writes compiled code to the folder.
    fn keep(&self, path: &Path, code: Result<Vec<u8>, String>) {
        let Some(folder) = &self.folder else { return };
        let kept = code
            .map_err(io::Error::other)
            .and_then(|code| write(path, &code))
            .and_then(|()| prune(folder));
        if let Err(error) = kept {
            tracing::warn!(file = %path.display(), %error, "cannot cache compiled code");
        }
    }
}

/// Does something on a thread where it may take its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LoadError::Compile(error.to_string()))?
}

fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.code", hasher.finish())
}

/// Creates a folder that only this user can write to.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the folder belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// `None` if there is no usable file; it is then written again.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let bytes = fs::read(path).ok()?;
    let (sum, code) = bytes.split_at_checked(32)?;
    if Sha256::digest(code).as_slice() != sum {
        tracing::warn!(file = %path.display(), "cached code is damaged; compiling again");
        return None;
    }
    deserialize(engine, code)
        .inspect_err(|error| tracing::info!(file = %path.display(), %error, "cached code is unusable; compiling again"))
        .ok()
}

/// Loads compiled code: of a file of this cache, or of the process that this one has started to make it.
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `deserialize` must be given what wasmtime's compiler made and nobody changed. That of a process comes
    // through a pipe from this very program, which ended without an error (`Compiler::compile`). That of a file was made
    // by `write` below, in a folder that belongs to this user and that nobody else can write to (`private_folder`); the
    // checksum, taken over the very bytes handed on here, rules out truncated and corrupted ones. wasmtime itself
    // refuses code of another version or configuration.
    unsafe {
        Component::deserialize(engine, code)
    }
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    // Two files may have the same content, and be loaded at the same time.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    let written = file
        .write_all(&Sha256::digest(code))
        .and_then(|()| file.write_all(code))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn prune(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let excess = files.len().saturating_sub(MAX_FILES);
    for (_, path) in files.into_iter().take(excess) {
        fs::remove_file(path)?;
    }
    Ok(())
}
