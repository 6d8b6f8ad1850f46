//! The pages in a real browser: what administrators see.

use std::process::Command;

use keepgate_tests::databacker::exporter::Exporter;
use keepgate_tests::databacker::logs::{Logger, line};
use keepgate_tests::databacker::spans::Run;
use keepgate_tests::gateway::Gateway;
use keepgate_tests::tools;

use super::{Admin, MOUNT, mounted};

/// A browser with a profile of its own.
struct Browser {
    program: std::path::PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    fn find() -> Option<Self> {
        let program = tools::find_for("chromium", "databacker's pages in a browser")?;
        Some(Self { program, profile: tempfile::tempdir().unwrap() })
    }

    /// The document of a page once its scripts have run for some seconds.
    fn document(&self, gateway: &Gateway, path: &str) -> String {
        let port = gateway.port();
        let mut command = Command::new(&self.program);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--ignore-certificate-errors", "--virtual-time-budget=10000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("https://ann:annspassword@127.0.0.1:{port}{MOUNT}{path}"));
        tools::run(command).success()
    }
}

#[test]
fn people_see_instances_runs_and_logs() {
    let Some(browser) = Browser::find() else { return };
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    let instance = admin.register(&mounted);
    let run = Run::example(123_456_789);
    for batch in run.batches() {
        Exporter::new(&instance.traces(port)).export(&batch).unwrap();
    }
    let logger = Logger::start(&instance.logs(port)).unwrap();
    let lines = ["beginning <dump>", "done"];
    let lines: Vec<_> = lines.iter().map(|text| line(&run.id, "info", text, 1)).collect();
    logger.post(&lines).unwrap();

    let overview = browser.document(&gateway, "/ui/");
    let link = format!("href=\"instances/{}\">of a test</a>", instance.id);
    assert!(overview.contains(&link) && overview.contains("117.7 MiB"), "{overview}");
    let one = browser.document(&gateway, &format!("/ui/instances/{}", instance.id));
    assert!(one.contains("class=\"fill-ok\"") && one.contains(&run.id), "{one}");
    let of_run = browser.document(&gateway, &format!("/ui/runs/{}", run.id));
    assert!(of_run.contains("Phases") && of_run.contains("Lines of this run"), "{of_run}");

    let path = format!("/ui/logs/{}", run.id);
    let followed = browser.document(&gateway, &path);
    assert!(followed.contains("the run has ended"), "the script has not run: {followed}");
    assert!(followed.contains("beginning &lt;dump&gt;") && followed.contains(">done<"));
    // Without scripts, a browser shows what it was sent; it cannot be made to print that.
    let still = admin.send("GET", &path, "").text();
    assert!(still.contains("as of now") && still.contains("beginning &lt;dump&gt;"), "{still}");
    gateway.stop();
}
