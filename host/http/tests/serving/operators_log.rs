//! The access log in a file, as rest-server's `--log` writes it.

use std::path::Path;
use std::sync::Arc;

use keepgate_auth::{Access, Method};
use keepgate_http::{CombinedLog, LogTarget};

use crate::support::{LONG, Native, Running, config, start_logged, stock};

async fn start(log: &Arc<CombinedLog>, access: Access) -> Running {
    let mounts: Vec<(Arc<dyn keepgate_http::Handler>, _)> =
        vec![(Native::at("/", stock), Arc::new(access))];
    start_logged(mounts, config(), Some(log.clone())).await
}

fn open(path: &Path) -> Arc<CombinedLog> {
    CombinedLog::open(path.to_owned()).unwrap()
}

/// The lines without their times.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let without_time = |line: &str| {
        let (before, rest) = line.split_once('[').unwrap();
        let (time, after) = rest.split_once(']').unwrap();
        assert_eq!(time.len(), "21/Nov/2026:12:00:00 +0000".len(), "{line}");
        format!("{before}[]{after}")
    };
    text.lines().map(without_time).collect()
}

#[tokio::test]
async fn every_request_has_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "old - - [21/Nov/2026:12:00:00 +0000] line\n").unwrap();
    let log = open(&path);
    let proxied = Access::Methods(vec![Method::ProxyHeader("X-User".parse().unwrap())]);
    let server = start(&log, proxied).await;
    let ask = async |request: &str| server.ask(request).await.status;
    let request = "GET /source/7?a=%22 HTTP/1.1\r\nX-User: alice\r\nUser-Agent: restic/0.18\r\n\
                   Referer: \"x\"\r\n\r\n";
    assert_eq!(ask(request).await, 200);
    assert_eq!(ask("POST /refuse HTTP/1.0\r\nX-User: b c\r\n\r\n").await, 403);
    assert_eq!(ask("GET /source/7 HTTP/1.1\r\n\r\n").await, 401);
    server.end().await;
    assert!(log.flush(LONG));
    let expected = [
        "old - - [] line",
        r#"127.0.0.1 - alice [] "GET /source/7?a=%22 HTTP/1.1" 200 7 "\"x\"" "restic/0.18""#,
        r#"127.0.0.1 - b\x20c [] "POST /refuse HTTP/1.0" 403 23 "" """#,
        r#"127.0.0.1 - - [] "GET /source/7 HTTP/1.1" 401 13 "" """#,
    ];
    assert_eq!(lines(&path), expected);
    assert_eq!(log.dropped(), 0);
}

#[tokio::test]
async fn a_rotated_log_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let old = folder.path().join("log.1");
    let log = open(&path);
    let server = start(&log, Access::Open).await;
    server.get("/source/1").await;
    assert!(log.flush(LONG));
    std::fs::rename(&path, &old).unwrap();

    // The new file cannot be opened: the log continues in the old one.
    std::fs::create_dir(&path).unwrap();
    let error = log.reopen().unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    server.get("/source/2").await;
    assert!(log.flush(LONG));
    assert_eq!(lines(&old).len(), 2);

    std::fs::remove_dir(&path).unwrap();
    log.reopen().unwrap();
    server.get("/source/3").await;
    server.end().await;
    // Dropping the last handle waits for queued lines.
    let log = Arc::into_inner(log).unwrap();
    drop(log);
    assert_eq!(lines(&old).len(), 2);
    assert_eq!(lines(&path), [r#"127.0.0.1 - - [] "GET /source/3 HTTP/1.1" 200 3 "" """#]);
}

#[test]
fn the_error_for_an_unwritable_log_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("log");
    let error = CombinedLog::open(path.clone()).unwrap_err().to_string();
    let expected = format!("cannot write the access log to {}: ", path.display());
    assert!(error.starts_with(&expected), "{error}");

    assert_eq!(LogTarget::from(std::path::PathBuf::from("-")), LogTarget::StandardOutput);
    let log = CombinedLog::open(LogTarget::StandardOutput).unwrap();
    log.reopen().unwrap();
    assert!(log.flush(LONG));

    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("log");
    drop(open(&path));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o644, 0, "{mode:o}");
}
