//! Component files: reading them, their sizes for people, and the cache of compiled code.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keepgate_runtime::folder::shown;
use keepgate_runtime::read_component;

/// Where compiled code is cached between runs; `None` if there is no cache folder.
pub(crate) fn code_folder() -> Option<PathBuf> {
    keepgate_builder::workspace::cache_folder().ok().map(|cache| cache.join("code"))
}

/// The component: the file itself, or the one in the folder, preferably named after it.
pub(crate) fn component(what: &Path) -> Result<PathBuf> {
    if !what.is_dir() {
        return Ok(what.to_owned());
    }
    let name = what.canonicalize().with_context(|| shown(what).into_owned())?;
    let mut name = name.file_name().unwrap_or_default().to_owned();
    name.push(".wasm");
    let named = what.join(name);
    if named.is_file() {
        return Ok(named);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(what).with_context(|| shown(what).into_owned())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let what = shown(what);
            bail!(
                "{what} contains no component; run `keepgate plugin build {what}`, or name a component"
            )
        }
        _ => bail!("{} contains several components; name one of them", shown(what)),
    }
}

/// Finds and reads a component, if it is not larger than a gateway accepts.
pub(crate) fn read(what: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let file = component(what)?;
    let bytes = read_component(&file).with_context(|| shown(&file).into_owned())?;
    Ok((file, bytes))
}

/// A size for people, for example `84 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
