//! `diff` and `verify`: a folder, and the server, against what a manifest says.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::api::Server;
use crate::arguments::{DiffArguments, VerifyArguments};
use crate::backup::{each, with_patience};
use crate::hashes::Hashes;
use crate::manifest::Manifest;
use crate::omit::Omit;
use crate::progress::Progress;
use crate::tree;

/// Says how a folder differs; true if it does not.
pub(crate) fn diff(server: &Server, asked: &DiffArguments, as_json: bool) -> Result<bool> {
    let stored = with_patience(|| server.manifest(&asked.name, asked.timestamp.as_deref()))?;
    let folder = asked.folder.canonicalize().with_context(|| asked.folder.display().to_string())?;
    let omit = if asked.omit.is_empty() { &stored.omit } else { &asked.omit };
    let mut now = Manifest::default();
    let mut whole = true;
    let mut unread = |path: &std::path::Path, error: &std::io::Error| {
        eprintln!("fest: {}: {error}", path.display());
        whole = false;
    };
    let found = tree::walk(&folder, &Omit::new(omit)?, &mut now, &mut unread)?;
    let hashes = Hashes::of(&folder, false);
    let mut differences: BTreeMap<String, &'static str> = BTreeMap::new();
    for found in &found {
        let known = stored.files.get(&found.key);
        let hash = || hashes.get(&folder, found);
        match known {
            None => drop(differences.insert(found.key.clone(), "added")),
            Some(known) if known.size != found.size || hash()? != known.hash.to_lowercase() => {
                differences.insert(found.key.clone(), "changed");
            }
            Some(known) if known.about != found.about => {
                differences.insert(found.key.clone(), "described otherwise");
            }
            Some(_) => {}
        }
    }
    let here: std::collections::BTreeSet<&String> = found.iter().map(|found| &found.key).collect();
    for key in stored.files.keys().filter(|key| !here.contains(key)) {
        differences.insert(key.clone(), "removed");
    }
    for (key, link) in &now.links {
        match stored.links.get(key) {
            None => drop(differences.insert(key.clone(), "added")),
            Some(known) if known != link => drop(differences.insert(key.clone(), "changed")),
            Some(_) => {}
        }
    }
    for key in stored.links.keys().filter(|key| !now.links.contains_key(*key)) {
        differences.insert(key.clone(), "removed");
    }
    for key in now.directories.keys().filter(|key| !stored.directories.contains_key(*key)) {
        differences.insert(format!("{key}/"), "added");
    }
    for key in stored.directories.keys().filter(|key| !now.directories.contains_key(*key)) {
        differences.insert(format!("{key}/"), "removed");
    }
    if as_json {
        println!(
            "{}",
            json!({"name": stored.name, "timestamp": stored.timestamp, "differences": differences})
        );
    } else {
        for (key, what) in &differences {
            println!("{what}: {}", key.escape_debug());
        }
    }
    Ok(differences.is_empty() && whole)
}

/// Checks that all files of a backup are stored.
pub(crate) fn verify(server: &Server, asked: &VerifyArguments, as_json: bool) -> Result<bool> {
    let stored = with_patience(|| server.manifest(&asked.name, asked.timestamp.as_deref()))?;
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    for (key, file) in stored.files.iter().filter(|(_, file)| !file.is_available) {
        wrong
            .insert(key.clone(), format!("never arrived as a whole, or is damaged: {}", file.hash));
    }
    if asked.read {
        let mut contents: BTreeMap<&str, (&String, u64)> = BTreeMap::new();
        for (key, file) in stored.files.iter().filter(|(_, file)| file.is_available) {
            contents.insert(&file.hash, (key, file.size));
        }
        let contents: Vec<_> = contents.into_iter().collect();
        let bytes = contents.iter().map(|(_, (_, size))| size).sum();
        let progress = Progress::begin("verifying", contents.len() as u64, bytes);
        let found = std::sync::Mutex::new(Vec::new());
        each(&contents, 8, |(hash, (key, _))| {
            if let Err(why) = read(server, hash, &progress) {
                let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                found.push(((*key).clone(), why));
            }
            progress.add_file();
        });
        drop(progress);
        wrong.extend(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
    if as_json {
        let files = stored.files.len();
        println!(
            "{}",
            json!({"name": stored.name, "timestamp": stored.timestamp, "files": files, "wrong": wrong})
        );
    } else {
        for (key, why) in &wrong {
            println!("{}: {why}", key.escape_debug());
        }
        println!(
            "{} {}: {} files, {} wrong",
            stored.name,
            stored.timestamp,
            stored.files.len(),
            wrong.len()
        );
    }
    Ok(wrong.is_empty())
}

/// Reads a file, and says what is wrong with it.
fn read(server: &Server, hash: &str, progress: &Progress) -> Result<(), String> {
    let input = with_patience(|| server.get(hash, 0)).map_err(|failed| failed.to_string())?;
    let mut input = progress.follow(input);
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = input.read(&mut piece).map_err(|error| error.to_string())?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    match hex::encode(hasher.finalize()) == hash.to_lowercase() {
        true => Ok(()),
        false => Err("the server sends other bytes".to_owned()),
    }
}
