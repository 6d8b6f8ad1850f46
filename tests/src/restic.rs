//! The restic client, with a cache and a home of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::tools;

/// The password of every repository in the tests.
pub const PASSWORD: &str = "open sesame";

/// restic, with a repository.
#[derive(Debug)]
pub struct Restic {
    program: PathBuf,
    home: TempDir,
    repository: String,
    certificate: Option<PathBuf>,
}

impl Restic {
    /// For a repository: `rest:https://user:password@localhost:8000/name/`, or a path. None, which
    /// is said, where there is no restic; `check` is what is skipped then.
    pub fn find(check: &str, repository: impl Into<String>) -> Option<Self> {
        let program = tools::find_for("restic", check)?;
        let (home, repository) = (tempfile::tempdir().unwrap(), repository.into());
        Some(Self { program, home, repository, certificate: None })
    }

    /// Takes this certificate for the server's.
    #[must_use]
    pub fn trusting(mut self, certificate: &Path) -> Self {
        self.certificate = Some(certificate.to_owned());
        self
    }

    /// The same client with another repository, which it may also know by another way.
    #[must_use]
    pub fn at(mut self, repository: impl Into<String>) -> Self {
        self.repository = repository.into();
        self
    }

    /// A command of restic, to be run in a folder.
    pub fn command<S: AsRef<OsStr>>(&self, folder: &Path, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--repo")
            .arg(&self.repository)
            .current_dir(folder)
            .env("HOME", self.home.path())
            .env("RESTIC_CACHE_DIR", self.home.path().join("cache"))
            .env("RESTIC_PASSWORD", PASSWORD);
        if let Some(certificate) = &self.certificate {
            command.arg("--cacert").arg(certificate);
        }
        command
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_in(self.home.path(), arguments)
    }

    /// Runs it in a folder; it must succeed.
    #[track_caller]
    pub fn run_in(&self, folder: &Path, arguments: &[&str]) -> String {
        tools::run(self.command(folder, arguments)).success()
    }

    /// How many snapshots the repository has.
    #[track_caller]
    pub fn snapshots(&self) -> usize {
        let said = self.run(&["snapshots", "--json"]);
        let snapshots: serde_json::Value = serde_json::from_str(&said).unwrap();
        snapshots.as_array().unwrap().len()
    }
}
