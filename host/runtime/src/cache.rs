//! Caches compiled code in the data folder, so that a restart does not compile again.
//!
//! The key is the component's digest and everything about the engine that compiled code depends on.
//! The folder is the gateway's own, never the plugin folder, where others can write.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

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

    /// Compiles a component, or takes it from the folder.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
        digest: &str,
    ) -> Result<Component, LoadError> {
        let Some(folder) = &self.folder else {
            return Component::from_binary(engine, wasm).map_err(LoadError::compile);
        };
        let path = folder.join(file_name(engine, digest));
        if let Some(component) = read(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, wasm).map_err(LoadError::compile)?;
        let kept = component
            .serialize()
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|code| write(&path, &code))
            .and_then(|()| prune(folder));
        if let Err(error) = kept {
            tracing::warn!(file = %path.display(), %error, "cannot cache compiled code");
        }
        Ok(component)
    }
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
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `deserialize` must be given what `Component::serialize` made and nobody changed.
    // Only `write` below makes such files, in a folder that belongs to this user and that nobody
    // else can write to (`private_folder`); the checksum, taken over the very bytes handed on
    // here, rules out truncated and corrupted ones. wasmtime itself refuses code of another
    // version or configuration.
    let component = unsafe { Component::deserialize(engine, code) };
    component
        .inspect_err(|error| tracing::info!(file = %path.display(), %error, "cached code is unusable; compiling again"))
        .ok()
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
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
