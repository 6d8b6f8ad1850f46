//! `restore`: makes folders, fetches files, and restores links, times, modes and owners. A file that is there already with
//! the right bytes is not fetched again, and one that was cut off goes on where it was.

use std::fs::{self, File as Opened, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::json;

use crate::api::{Failed, Server};
use crate::arguments::RestoreArguments;
use crate::backup::{each, with_patience};
use crate::hashes;
use crate::manifest::{About, File, Manifest};
use crate::names;
use crate::progress::{Progress, size};
use crate::tree::Owners;

const PIECE: usize = 256 * 1024;

/// Whether all of it was restored.
pub(crate) fn run(server: &Server, asked: &RestoreArguments, as_json: bool) -> Result<bool> {
    let manifest = with_patience(|| server.manifest(&asked.name, asked.timestamp.as_deref()))?;
    let missing = manifest.files.values().filter(|file| !file.is_available).count();
    if missing > 0 {
        eprintln!(
            "fest: {missing} files of this backup never arrived as a whole, or are damaged; the others are restored"
        );
    }
    fs::create_dir_all(&asked.folder).with_context(|| asked.folder.display().to_string())?;
    let folder = asked.folder.canonicalize()?;
    let problems = Mutex::new(missing as u64);
    let report = |path: &Path, error: &dyn std::fmt::Display| {
        eprintln!("fest: {}: {error}", names::shown(path));
        *problems.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    };
    let owners = asked.owner.then(Owners::read);
    let mut folders = Vec::new();
    for (key, about) in &manifest.directories {
        let path = target(&folder, key, about.raw.as_deref())?;
        match make_folder(&folder, &path) {
            Ok(()) => folders.push((path, about)),
            Err(error) => report(&path, &error),
        }
    }
    let files = files(&folder, &manifest)?;
    let bytes = files.iter().map(|(_, file)| file.size).sum();
    let progress = Progress::begin("restoring", files.len() as u64, bytes);
    each(&files, asked.jobs, |(path, file)| {
        let restored = restore(server, &folder, path, file, &progress)
            .and_then(|()| describe(path, &file.about, owners.as_ref()).map_err(Into::into));
        if let Err(error) = restored {
            report(path, &format!("{error:#}"));
        }
        progress.add_file();
    });
    drop(progress);
    // After the files, so that none of them is written through a link.
    for (key, link) in &manifest.links {
        let path = target(&folder, key, link.raw.as_deref())?;
        let to = match &link.raw_target {
            Some(raw) => names::to_path("", Some(raw)),
            None => Some(PathBuf::from(&link.target)),
        };
        let made =
            to.ok_or_else(|| io::Error::other("the link's target cannot be read")).and_then(|to| {
                make_folder(&folder, path.parent().unwrap_or(&folder))?;
                match fs::read_link(&path) {
                    Ok(there) if there == to => Ok(()),
                    _ => symlink(to, &path),
                }
            });
        if let Err(error) = made {
            report(&path, &error);
        }
    }
    // The innermost first: what is written into a folder changes its time, and a mode may forbid it.
    folders.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    for (path, about) in folders {
        if let Err(error) = describe(&path, about, owners.as_ref()) {
            report(&path, &error);
        }
    }
    let problems = *problems.lock().unwrap_or_else(PoisonError::into_inner);
    if as_json {
        let result = json!({
            "name": manifest.name, "timestamp": manifest.timestamp, "files": files.len(), "bytes": bytes_of(&files),
            "problems": problems,
        });
        println!("{result}");
    } else {
        println!(
            "{} {}: {} files, {} restored",
            manifest.name,
            manifest.timestamp,
            files.len(),
            size(bytes_of(&files))
        );
    }
    Ok(problems == 0)
}

fn bytes_of(files: &[(PathBuf, &File)]) -> u64 {
    files.iter().map(|(_, file)| file.size).sum()
}

/// The files that can be restored, with where to.
fn files<'a>(folder: &Path, manifest: &'a Manifest) -> Result<Vec<(PathBuf, &'a File)>> {
    let there = manifest.files.iter().filter(|(_, file)| file.is_available);
    there.map(|(key, file)| Ok((target(folder, key, file.about.raw.as_deref())?, file))).collect()
}

fn target(folder: &Path, key: &str, raw: Option<&str>) -> Result<PathBuf> {
    match names::to_path(key, raw) {
        Some(path) => Ok(folder.join(path)),
        None => bail!("the manifest has a path that leads out of the folder: {key:?}"),
    }
}

/// Makes a folder with those above it, none of which may be a link.
fn make_folder(top: &Path, path: &Path) -> io::Result<()> {
    let below = path.strip_prefix(top).map_err(io::Error::other)?;
    let mut made = top.to_owned();
    for part in below.components() {
        made.push(part);
        match fs::symlink_metadata(&made) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is not a folder", made.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&made)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fetches a file, unless it is there.
fn restore(
    server: &Server,
    top: &Path,
    path: &Path,
    file: &File,
    progress: &Progress,
) -> Result<()> {
    make_folder(top, path.parent().unwrap_or(top))?;
    let there =
        fs::symlink_metadata(path).ok().filter(|there| there.is_file() && there.len() == file.size);
    if there.is_some() && hashes::of_file(path)? == file.hash.to_lowercase() {
        progress.add_bytes(file.size);
        return Ok(());
    }
    // The same name each time, so that the next attempt finds it.
    let name = path.file_name().unwrap_or_default().as_bytes();
    let short = file.hash.get(..16).unwrap_or_default();
    let digest = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(name));
    let tag = hex::encode(digest.get(..4).unwrap_or_default());
    let part = path.with_file_name(format!(".fest-{short}-{tag}"));
    let mut tries = 0;
    loop {
        match fetch(server, &part, file, progress) {
            Ok(()) => break,
            Err(Unfetched::Failed(failed)) if failed.may_pass() && tries < 5 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_secs(1 << tries));
            }
            Err(Unfetched::Failed(failed)) => return Err(failed.into()),
            Err(Unfetched::Io(error)) => return Err(error.into()),
        }
    }
    if hashes::of_file(&part)? != file.hash.to_lowercase() {
        fs::remove_file(&part)?;
        bail!("the server sends other bytes than were backed up");
    }
    fs::rename(&part, path)?;
    Ok(())
}

/// Why a file was not fetched.
enum Unfetched {
    Failed(Failed),
    Io(io::Error),
}

/// Fetches what is missing of a file.
fn fetch(server: &Server, part: &Path, file: &File, progress: &Progress) -> Result<(), Unfetched> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let mut output = options.open(part).map_err(Unfetched::Io)?;
    let mut from = output.metadata().map_err(Unfetched::Io)?.len();
    if from > file.size {
        output.set_len(0).map_err(Unfetched::Io)?;
        from = 0;
    }
    if from < file.size {
        let input = server.get(&file.hash, from).map_err(Unfetched::Failed)?;
        let mut input = progress.follow(input);
        let mut piece = vec![0; PIECE];
        loop {
            let read = input.read(&mut piece);
            let read =
                read.map_err(|error| Unfetched::Failed(Failed::Broken(error.to_string())))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            output.write_all(bytes).map_err(Unfetched::Io)?;
        }
    }
    output.sync_all().map_err(Unfetched::Io)
}

/// Restores owner, mode and time.
fn describe(path: &Path, about: &About, owners: Option<&Owners>) -> io::Result<()> {
    if let Some(owners) = owners {
        lchown(path, owners.users.id(&about.user), owners.groups.id(&about.group))?;
    }
    // The digits are octal ones.
    if let Ok(mode) = u32::from_str_radix(&about.permissions.to_string(), 8) {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    if let Ok(time) = about.timestamp.parse::<Timestamp>() {
        let times = FileTimes::new().set_modified(SystemTime::from(time));
        Opened::open(path)?.set_times(times)?;
    }
    Ok(())
}
