//! `restic-suite`: runs restic's own tests of its REST backend against `keepgate rest-server`, over TCP and a
//! Unix socket, and against `keepgate serve`, over TLS with HTTP/2 and a password. The tests come with restic;
//! this file only fetches them and tells them where the gateway is.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::{env, thread};

use anyhow::{Context, Result, anyhow, bail, ensure};

use keepgate_builder::process;
use keepgate_builder::workspace::Workspace;

use crate::{components, guests, run};

/// The folder of the suite in restic's module.
const PACKAGE: &str = "internal/backend/rest";
/// The name of the tests that the suite skips if it finds no `rest-server`.
const NEVER_SKIPPED: &str = "restic/backend/rest.TestBackendREST";

/// Builds the gateway and runs the suite of the given or the pinned version of restic. All tests must pass,
/// and none may be skipped. With a place, such as a bucket, `rest-server` keeps its data below it.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let restic = components::go_program("restic-new").map_err(|error| anyhow!(error))?;
    let (place, version) = match arguments {
        [flag, place, version @ ..] if flag == "--path" => (Some(place.as_str()), version),
        version => (None, version),
    };
    let version = match version {
        [] => restic.version,
        [version] if version.starts_with('v') => version,
        _ => bail!(
            "`restic-suite` takes `--path PLACE` and a version, for example `{}`",
            restic.version
        ),
    };
    ensure!(
        process::find("go").is_some(),
        "restic's tests need go (https://go.dev/doc/install), which is not on the PATH"
    );
    guests::build(workspace, false)?;
    run::build_program(workspace, run::GATEWAY)?;

    process::step(&format!("restic's own test-suite, {version}"));
    let folder = workspace.cache.join("restic-suite");
    components::require(&folder, restic.module, version).map_err(|error| anyhow!(error))?;
    wrap(&workspace.program(run::GATEWAY), &folder.join("rest-server"), place)?;
    let gateway = Gateway::start(workspace, &folder)?;

    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(folder.clone()).chain(env::split_paths(&others)))?;
    let mut command = Command::new("go");
    // Go's default is ten minutes.
    command.args(["test", "-mod=mod", "-v", "-count=1", "-timeout=3m"]);
    command.arg(format!("{}/{PACKAGE}", restic.module));
    command
        .current_dir(&folder)
        .env("PATH", path)
        .env("KEEPGATE_PLUGIN_DIR", workspace.plugins())
        .env("RESTIC_TEST_DISALLOW_SKIP", NEVER_SKIPPED)
        .env("RESTIC_TEST_REST_REPOSITORY", &gateway.repository)
        .env("SSL_CERT_FILE", folder.join("data/tls/certificate.pem"));
    let (mut passed, mut skipped) = (0, Vec::new());
    let status = process::stream(&mut command, &mut io::stdout(), |line| {
        let line = line.trim_start();
        passed += u32::from(line.starts_with("--- PASS"));
        skipped.extend(line.strip_prefix("--- SKIP: ").map(str::to_owned));
    })?;
    ensure!(status.success(), "restic's suite failed, see above");
    ensure!(skipped.is_empty(), "restic's suite skipped {}", skipped.join(", "));
    process::step(&format!("restic's suite: {passed} passed, none failed, none skipped"));
    Ok(ExitCode::SUCCESS)
}

/// Writes a program named `rest-server`, which the suite starts. Each has a folder of its own at the place, if
/// there is one.
fn wrap(keepgate: &Path, wrapper: &Path, place: Option<&str>) -> Result<()> {
    // In single quotes, only a single quote is special.
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let keepgate = quoted(&keepgate.display().to_string());
    let path = place.map(|place| format!(" --path {}/$$", quoted(place))).unwrap_or_default();
    // `exec`, so that the suite's signals reach the gateway.
    fs::write(wrapper, format!("#!/bin/sh\nexec {keepgate} rest-server \"$@\"{path}\n"))
        .and_then(|()| fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755)))
        .with_context(|| wrapper.display().to_string())
}

/// The trial set-up, for tests that work with any server. Dropping this ends it.
struct Gateway {
    process: Child,
    /// With user and password, in restic's syntax.
    repository: String,
}

impl Gateway {
    fn start(workspace: &Workspace, folder: &Path) -> Result<Self> {
        let data = folder.join("data");
        // The password is shown only at the first start.
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        }
        let mut command = Command::new(workspace.program(run::GATEWAY));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        command.env("KEEPGATE_PLUGIN_DIR", workspace.plugins());
        command.env("KEEPGATE_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().with_context(|| process::words(&command))?;
        let mut gateway = Self { process, repository: String::new() };
        let said = gateway.process.stdout.take().context("no pipe from the gateway")?;
        let mut lines = BufReader::new(said).lines();
        let found = lines.by_ref().map_while(Result::ok).find_map(|line| repository_in(&line));
        gateway.repository = found.context("the gateway ended without printing its address")?;
        // Further output must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Ok(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The repository in the line that the trial set-up prints.
fn repository_in(line: &str) -> Option<String> {
    let value = line.trim().strip_prefix("export RESTIC_REPOSITORY=")?;
    Some(value.trim_matches('\'').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_found_in_what_the_first_start_prints() {
        let line = "  export RESTIC_REPOSITORY='rest:https://keepgate:s3@localhost:8000/demo/'";
        let found = repository_in(line).unwrap();
        assert_eq!(found, "rest:https://keepgate:s3@localhost:8000/demo/");
        assert_eq!(repository_in("  export RESTIC_PASSWORD='choose one'"), None);
    }

    #[test]
    fn the_wrapper_becomes_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let (program, wrapper) = (folder.path().join("it's"), folder.path().join("rest-server"));
        fs::write(&program, "#!/bin/sh\necho $$ \"$@\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for (place, further) in
            [(None, String::new()), (Some("s3:x y"), " --path s3:x y/".to_owned())]
        {
            wrap(&program, &wrapper, place).unwrap();
            let child = Command::new(&wrapper).arg("a b").stdout(Stdio::piped()).spawn().unwrap();
            let id = child.id();
            let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            let further = if place.is_some() { format!("{further}{id}") } else { further };
            assert_eq!(said, format!("{id} rest-server a b{further}\n"));
        }
    }

    #[test]
    fn other_arguments_are_rejected() {
        let workspace = Workspace::sample(Path::new("/nonexistent"), vec![]);
        let error = run(&workspace, &["0.19".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("for example `v"), "{error}");
    }
}
