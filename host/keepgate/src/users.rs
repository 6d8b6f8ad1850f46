//! `keepgate user`: manages an htpasswd file with bcrypt hashes. The file is replaced atomically and
//! durably, so that a running gateway never reads half of it.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use keepgate_auth::{Htpasswd, htpasswd};

use crate::cli::{User, UserCommand};
use crate::output::{note, say, tell};

/// The cost of bcrypt: about 50 ms on a machine of 2024. The gateway caches successful logins, so this
/// is not paid for each request.
const COST: u32 = 10;
/// bcrypt ignores further bytes.
const MAX_PASSWORD: usize = 72;

/// Runs the command and returns the exit code.
pub(crate) async fn run(arguments: &User) -> Result<u8> {
    let file = &arguments.file;
    match &arguments.command {
        UserCommand::Add { name, generate } => {
            let password = if *generate { make_password()? } else { read_password()? };
            let what = if set(file, name, &password)? { "changed" } else { "added" };
            if *generate {
                say!("{password}")?;
            }
            note!("{what} {name} in {}", file.display());
        }
        UserCommand::Remove { name } => {
            if !remove(file, name)? {
                bail!("unknown user {name:?} in {}", file.display());
            }
            note!("removed {name} from {}", file.display());
        }
        UserCommand::List => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for name in text.lines().filter_map(user_of) {
                say!("{name}")?;
            }
        }
        UserCommand::Verify { name } => {
            let password = read_password()?;
            let users = Htpasswd::load(file, htpasswd::Options::default())?;
            if users.verify(name, password.as_bytes(), None).await != htpasswd::Verdict::Accepted {
                note!("wrong password or unknown user {name:?}");
                return Ok(1);
            }
            note!("the password of {name} is correct");
        }
    }
    Ok(0)
}

/// Adds a user or changes a password, and creates the file if necessary. Returns whether the user
/// existed.
pub(crate) fn set(file: &Path, name: &str, password: &str) -> Result<bool> {
    check_name(name)?;
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.len() > MAX_PASSWORD {
        bail!(
            "the password is longer than {MAX_PASSWORD} bytes, of which bcrypt would ignore the rest"
        );
    }
    let hash = bcrypt::hash(password, COST)?;
    let line = format!("{name}:{hash}");
    let mut found = false;
    let mut lines = Vec::new();
    for old in read_or_nothing(file)?.lines() {
        if user_of(old) == Some(name) {
            // Of several lines of a user, one is kept.
            if !found {
                lines.push(line.clone());
            }
            found = true;
        } else {
            lines.push(old.to_owned());
        }
    }
    if !found {
        lines.push(line);
    }
    replace(file, &lines)?;
    Ok(found)
}

fn remove(file: &Path, name: &str) -> Result<bool> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let kept: Vec<String> =
        text.lines().filter(|line| user_of(line) != Some(name)).map(str::to_owned).collect();
    let found = kept.len() < text.lines().count();
    if found {
        replace(file, &kept)?;
    }
    Ok(found)
}

/// 130 random bits, as letters and digits that are hard to confuse.
pub(crate) fn make_password() -> Result<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 26];
    getrandom::fill(&mut bytes).context("no random numbers")?;
    let digit = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map(char::from);
    Ok(bytes.iter().filter_map(digit).collect())
}

/// The rule of rest-server, which keeps `/` and the like out of folders that are named after users.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_alphabetic() || c.is_ascii_digit() || "@._-".contains(c);
    if name.is_empty() || !name.chars().all(fine) {
        bail!("user name {name:?}: only letters, digits, `@`, `.`, `_` and `-` are allowed");
    }
    Ok(())
}

fn user_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with('#') { None } else { line.split_once(':').map(|(name, _)| name) }
}

fn read_or_nothing(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {}", file.display())),
    }
}

fn replace(file: &Path, lines: &[String]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write_durably(file, text.as_bytes())
}

/// Writes a file atomically and durably, readable by its owner only, or with the mode of the file that
/// it replaces.
pub(crate) fn write_durably(file: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", file.display());
    let mode = fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(name);
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut new =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        new.write_all(bytes)?;
        new.set_permissions(fs::Permissions::from_mode(mode))?;
        new.sync_all()?;
        fs::rename(&temporary, file)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(context)
}

/// The first line of standard input.
fn read_password() -> Result<String> {
    if io::stdin().is_terminal() {
        tell(format_args!(
            "password (visible while you type; you can also pipe it in, or use --generate): "
        ));
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\n', '\r']).to_owned());
    }
    let mut text = String::new();
    io::stdin().take(4096).read_to_string(&mut text).context("cannot read the password")?;
    Ok(text.lines().next().unwrap_or("").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_are_added_changed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("htpasswd");
        assert!(!set(&file, "ann", "one").unwrap());
        assert!(!set(&file, "bob", "two").unwrap());
        assert!(set(&file, "ann", "three").unwrap());
        let users = Htpasswd::load(&file, htpasswd::Options::default()).unwrap();
        assert_eq!(users.users(), 2);
        assert_eq!(users.verify("ann", b"three", None).await, htpasswd::Verdict::Accepted);
        assert_eq!(users.verify("ann", b"one", None).await, htpasswd::Verdict::Rejected);
        assert!(remove(&file, "ann").unwrap());
        assert!(!remove(&file, "ann").unwrap());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn lines_of_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("htpasswd");
        fs::write(&file, "# staff\n old:{SHA}x\nann:$2y$05$x\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        set(&file, "ann", "new").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# staff\n old:{SHA}x\nann:$2"), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn unsafe_names_and_passwords_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("htpasswd");
        for name in ["", "a/b", "a:b", "a b", "a\nb"] {
            assert!(set(&file, name, "x").is_err(), "{name:?}");
        }
        assert!(set(&file, "ann", "").is_err());
        assert!(set(&file, "ann", &"x".repeat(73)).is_err());
        assert!(!file.exists());
        assert_ne!(make_password().unwrap(), make_password().unwrap());
    }
}
