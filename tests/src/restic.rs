//! The restic client, with its own cache and home folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::{tools, tree};

/// The password of every repository in the tests.
pub const PASSWORD: &str = "open sesame";

/// Debian's restic, which is years old.
pub const DEBIANS: &str = "restic";

/// The newest restic, which xtask builds.
pub const NEWEST: &str = "restic-new";

/// restic with a repository.
#[derive(Clone, Debug)]
pub struct Restic {
    program: PathBuf,
    home: Arc<TempDir>,
    repository: String,
    certificate: Option<PathBuf>,
    presented: Option<PathBuf>,
}

impl Restic {
    /// Debian's, for a repository: `rest:https://user:password@localhost:8000/name/`, or a path. If
    /// there is no restic, reports that `check` is skipped and returns none.
    pub fn find(check: &str, repository: impl Into<String>) -> Option<Self> {
        Self::find_as(DEBIANS, check, repository)
    }

    /// The same with another version: [`DEBIANS`] or [`NEWEST`].
    pub fn find_as(name: &str, check: &str, repository: impl Into<String>) -> Option<Self> {
        let program = tools::find_for(name, check)?;
        let (home, repository) = (Arc::new(tempfile::tempdir().unwrap()), repository.into());
        Some(Self { program, home, repository, certificate: None, presented: None })
    }

    /// Makes it accept this certificate as the server's.
    #[must_use]
    pub fn trusting(mut self, certificate: &Path) -> Self {
        self.certificate = Some(certificate.to_owned());
        self
    }

    /// Makes it present a certificate: a PEM file with certificate and key.
    #[must_use]
    pub fn presenting(mut self, certificate: &Path) -> Self {
        self.presented = Some(certificate.to_owned());
        self
    }

    /// The same client with another repository, or another address of the same one.
    #[must_use]
    pub fn at(&self, repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), ..self.clone() }
    }

    /// The repository, as it was given.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// A restic command to be run in a folder.
    pub fn command<S: AsRef<OsStr>>(&self, folder: &Path, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--repo")
            .arg(&self.repository)
            .current_dir(folder)
            .env("HOME", self.home.path())
            .env("RESTIC_CACHE_DIR", self.home.path().join("cache"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_FROM_PASSWORD", PASSWORD);
        if let Some(certificate) = &self.certificate {
            command.arg("--cacert").arg(certificate);
        }
        if let Some(presented) = &self.presented {
            command.arg("--tls-client-cert").arg(presented);
        }
        command
    }

    /// Runs it and returns its output; panics if it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_in(self.home.path(), arguments)
    }

    /// The same, in a folder.
    #[track_caller]
    pub fn run_in(&self, folder: &Path, arguments: &[&str]) -> String {
        tools::run(self.command(folder, arguments)).success()
    }

    /// Runs a command whose output is JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }

    /// Runs a command that must fail by itself. Returns its exit code and standard error.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let finished = tools::run(self.command(self.home.path(), arguments));
        let code = finished.status.code().unwrap();
        (code, finished.fails_with(code.max(1)))
    }

    /// How many snapshots the repository has.
    #[track_caller]
    pub fn snapshots(&self) -> usize {
        self.json(&["snapshots"]).as_array().unwrap().len()
    }

    /// Restores the newest snapshot and compares it with the folder that was backed up.
    #[track_caller]
    pub fn assert_restores(&self, source: &Path) {
        let target = tempfile::tempdir().unwrap();
        self.run(&["restore", "latest", "--target", target.path().to_str().unwrap()]);
        tree::assert_same(source, &target.path().join(source.file_name().unwrap()));
    }
}
