//! Whether bytes are a whole component, and of which kind: a plugin of the contract, in a version that
//! this host supports, or a service of `wasi:http`.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::capability;
use crate::contract::{PACKAGE, VERSION};
use crate::engine::Host;
use crate::error::LoadError;
use crate::wasi_http;

/// Checks that the bytes are a whole component, by the lengths of its sections. The compiler would find
/// that too, but with a message that does not help.
pub(crate) fn check_framing(bytes: &[u8]) -> Result<(), LoadError> {
    let magic = b"\0asm";
    if !bytes.starts_with(magic.get(..bytes.len().min(4)).unwrap_or_default()) {
        return Err(LoadError::NotWasm);
    }
    let (Some(layer), Some(mut rest)) = (bytes.get(6), bytes.get(8..)) else {
        return Err(LoadError::EndsEarly);
    };
    if *layer == 0 {
        return Err(LoadError::CoreModule);
    }
    while let Some((id, after)) = rest.split_first() {
        if *id > LAST_SECTION {
            // A copy that is not finished ends with a part of what was there, so waiting would not help.
            return Err(LoadError::Trailing { at: bytes.len() - rest.len() });
        }
        let (length, after) = section_length(after).ok_or(LoadError::EndsEarly)?;
        rest = after.get(length..).ok_or(LoadError::EndsEarly)?;
    }
    Ok(())
}

/// The highest number of a kind of section in a component: values.
const LAST_SECTION: u8 = 12;

/// A section's length in LEB128, and what follows it.
fn section_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, bytes.get(index + 1..)?));
        }
    }
    None
}

/// What a component is.
pub(crate) enum ComponentKind {
    /// A plugin of the contract.
    Contract,
    /// A service of this version of `wasi:http`.
    WasiHttp(String),
}

pub(crate) fn check_contract(
    host: &Host,
    component: &Component,
) -> Result<ComponentKind, LoadError> {
    let ty = component.component_type();
    let exports: Vec<String> = ty.exports(&host.engine).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = ty
        .imports(&host.engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    let versions = exports.iter().chain(&imports).filter_map(|name| version_of(name));
    if let Some(found) = versions.into_iter().find(|version| !is_supported(version)) {
        return Err(other_version(found));
    }
    let service = exports.iter().find_map(|name| name.strip_prefix(wasi_http::EXPORT));
    if !exports.iter().any(|name| is_ours(name, "guest")) {
        if let Some(patch) = service {
            let unknown = imports.into_iter().find(|name| !is_wasi(name));
            let kind = ComponentKind::WasiHttp(format!("wasi:http@0.2.{patch}"));
            return unknown.map_or(Ok(kind), |import| Err(LoadError::NoSuchImport { import }));
        }
        if let Some(export) = exports.iter().find(|name| name.starts_with(wasi_http::NEXT_EXPORT)) {
            return Err(LoadError::NextHttp { export: export.clone() });
        }
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        return Err(LoadError::NoGuest { exports });
    }
    let unknown = imports.into_iter().find(|name| match name.split_once('/') {
        Some((PACKAGE, rest)) => {
            let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
            !(capability::is_offered(interface) && is_supported(version))
        }
        _ => !is_wasi(name) || name.starts_with("wasi:http/"),
    });
    unknown.map_or(Ok(ComponentKind::Contract), |import| Err(LoadError::NoSuchImport { import }))
}

/// Whether an import is one of WASI's interfaces that the host links. It grants nothing through them.
fn is_wasi(name: &str) -> bool {
    let packages = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
    let package = name.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'));
    package.is_some_and(|(package, rest)| packages.contains(&package) && rest.contains("@0.2."))
}

pub(crate) fn exports_job_runner(host: &Host, component: &Component) -> bool {
    component.component_type().exports(&host.engine).any(|(name, _)| is_ours(name, "job-runner"))
}

/// Whether a name is that of this interface of the contract, in a version that this host supports.
fn is_ours(name: &str, interface: &str) -> bool {
    let rest = name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/'));
    let found = rest.and_then(|rest| rest.split_once('@'));
    found.is_some_and(|(known, version)| known == interface && is_supported(version))
}

/// Whether this host supports a version of the contract: its own, or one that differs in the patch only.
/// A later patch may add functions; if a plugin imports one that this host lacks, linking fails.
pub(crate) fn is_supported(version: &str) -> bool {
    let minor = VERSION.rsplit_once('.').map_or(VERSION, |(minor, _)| minor);
    let patch = version.strip_prefix(minor).and_then(|rest| rest.strip_prefix('.'));
    patch.is_some_and(|patch| patch.parse::<u32>().is_ok())
}

/// The contract's version in the name of an import or export.
fn version_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@')?.1)
}

pub(crate) fn other_version(found: &str) -> LoadError {
    let number = |version: &str| -> Vec<u64> {
        version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    let advice = if number(found) > number(VERSION) {
        "the gateway is too old for it; use a newer gateway or an older plugin"
    } else {
        "the plugin is too old; build it with this gateway's SDK or get a newer version"
    };
    LoadError::OtherVersion { found: found.to_owned(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_whole_components_are_told_apart() {
        assert!(matches!(check_framing(b""), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"\0as"), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"#!/bin/sh"), Err(LoadError::NotWasm)));
        assert!(matches!(check_framing(b"\0asm\x01\0\0\0"), Err(LoadError::CoreModule)));
        assert!(check_framing(b"\0asm\x0d\0\x01\0").is_ok());
        assert!(check_framing(b"\0asm\x0d\0\x01\0\0\x02ab").is_ok());
        assert!(matches!(check_framing(b"\0asm\x0d\0\x01\0\0\x03ab"), Err(LoadError::EndsEarly)));
        assert!(matches!(check_framing(b"\0asm\x0d\0\x01\0\0"), Err(LoadError::EndsEarly)));
        let junk = check_framing(b"\0asm\x0d\0\x01\0\0\x02abjunk");
        assert!(matches!(junk, Err(LoadError::Trailing { at: 12 })), "{junk:?}");
    }

    #[test]
    fn versions_say_which_side_is_too_old() {
        assert_eq!(version_of("keepgate:plugin/guest@0.2.0"), Some("0.2.0"));
        assert_eq!(version_of("wasi:io/poll@0.2.0"), None);
        assert!(is_supported("0.1.0") && is_supported("0.1.7"));
        assert!(!is_supported("0.2.0") && !is_supported("1.1.0") && !is_supported("0.1.1-rc1"));
        assert!(is_ours("keepgate:plugin/guest@0.1.3", "guest"));
        assert!(!is_ours("keepgate:plugin/guests@0.1.0", "guest"));
        assert!(other_version("0.2.0").to_string().contains("gateway is too old"));
        assert!(other_version("0.0.9").to_string().contains("plugin is too old"));
    }
}
