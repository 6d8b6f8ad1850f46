//! Runs of a client that dumps a real MariaDB, as administrators see them.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use flate2::read::GzDecoder;
use keepgate_tests::databacker::config::{Remote, load};
use keepgate_tests::databacker::exporter::{Dropped, Exporter};
use keepgate_tests::databacker::spans::{Run, Target, startup};
use keepgate_tests::databacker::uuid;
use keepgate_tests::mariadb::{MariaDb, USER, write_gzip};
use serde_json::{Value, json};

use super::{Admin, mounted};

/// The client's own file: what to dump, where to, and where to report.
fn file(port: u16, password: &str, target: &Path, telemetry: &Remote) -> String {
    format!(
        "version: config.databack.io/v1\nkind: local\nspec:\n  \
         database:\n    server: 127.0.0.1\n    port: {port}\n    \
         credentials: {{username: {}, password: \"{password}\"}}\n  \
         dump: {{include: [shop], targets: [here]}}\n  \
         targets:\n    here: {{type: file, url: \"file://{}\"}}\n  \
         telemetry:\n    url: \"{}?x=1\"\n    certificates: [\"{}\"]\n    credentials: {}\n",
        USER.0,
        target.display(),
        telemetry.url,
        telemetry.certificates[0],
        telemetry.credentials
    )
}

/// Dumps what a configuration says, and returns the run.
fn dump(spec: &Value, database: &MariaDb) -> Run {
    let start = SystemTime::now();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let id = uuid();
    let names: Vec<String> = spec["dump"]["include"].as_array().unwrap().iter().map(text).collect();
    let dumped =
        database.dump(&names[0], spec["database"]["credentials"]["password"].as_str().unwrap());
    let target = &spec["targets"][spec["dump"]["targets"][0].as_str().unwrap()];
    let url = text(&target["url"]);
    let folder = Path::new(url.strip_prefix("file://").unwrap());
    let written =
        dumped.as_ref().map(|dump| write_gzip(dump, &folder.join(format!("{id}.sql.gz"))));
    Run {
        id,
        server: text(&spec["database"]["server"]),
        port: u16::try_from(spec["database"]["port"].as_u64().unwrap()).unwrap(),
        databases: names,
        targets: vec![Target { kind: text(&target["type"]), url, bytes: written.unwrap_or(0) }],
        failure: dumped.err().map(|why| format!("failed to dump database: {why}")),
        start,
        took: start.elapsed().unwrap(),
    }
}

#[test]
fn a_dump_of_mariadb_is_listed_with_its_size_and_one_that_fails_with_the_reason() {
    let Some(database) = MariaDb::find("runs that dump a real MariaDB") else { return };
    database.fill("shop", 10_000);
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let instance = admin.register(&mounted);
    let telemetry = instance.traces(gateway.port());
    let target = tempfile::tempdir().unwrap();

    let spec = load(file(database.port(), USER.1, target.path(), &telemetry).as_bytes()).unwrap();
    let run = dump(&spec, &database);
    assert_eq!(run.failure, None);
    let mut exporter = Exporter::new(&Remote::of(&spec["telemetry"]).unwrap());
    let answer = exporter.export(&[startup(run.start)]).unwrap();
    assert_eq!((answer.version, answer.status), ("HTTP/2", 200));
    assert_eq!(answer.content_type.as_deref(), Some("application/x-protobuf"));
    let [first, second, root] = run.batches();
    exporter.export(&first).unwrap();
    exporter.export(&second).unwrap();
    gateway.eventually("a run whose root has not come", |_| admin.runs(&instance).len() == 1);
    assert_eq!(admin.runs(&instance)[0]["status"], "running");
    exporter.export(&first).unwrap();
    exporter.export(&root).unwrap();

    gateway.eventually("the run has ended", |_| admin.runs(&instance)[0]["status"] == "ok");
    let runs = admin.runs(&instance);
    assert_eq!(runs.len(), 1, "{runs:?}");
    let listed = &runs[0];
    let written = target.path().join(format!("{}.sql.gz", run.id));
    assert_eq!(listed["bytes"], fs::metadata(&written).unwrap().len());
    assert_eq!((&listed["id"], &listed["instance"]), (&json!(run.id), &json!(instance.id)));
    assert_eq!((&listed["kind"], &listed["exitCode"]), (&json!("dump"), &json!(0)));
    assert_eq!(listed["databases"], json!(["shop"]));
    assert_eq!(listed["targets"].as_array().unwrap().len(), 1, "{listed}");
    let shown = &listed["targets"][0];
    assert_eq!((&shown["type"], &shown["status"]), (&json!("file"), &json!("ok")));
    assert_eq!(shown["url"], run.targets[0].url);
    let whole = admin.get(&format!("/admin/runs/{}", run.id));
    let phases = whole["phases"].as_array().unwrap();
    assert_eq!(phases.len(), run.spans().len(), "{whole}");
    for name in ["run", "dump", "database_dump", "output_tar", "upload"] {
        let found = phases.iter().find(|phase| phase["name"] == name);
        assert_eq!(found.unwrap_or_else(|| panic!("{name}: {whole}"))["status"], "ok");
    }
    let line = admin.get(&format!("/admin/instances/{}", instance.id));
    assert_eq!(line["lastRun"]["id"], run.id);

    // The dump itself can be restored.
    let mut sql = Vec::new();
    GzDecoder::new(fs::File::open(&written).unwrap()).read_to_end(&mut sql).unwrap();
    database.run("DROP DATABASE shop");
    database.restore(&sql);
    assert_eq!(database.run("SELECT COUNT(*) FROM shop.orders").trim(), "10000");

    let spec = load(file(database.port(), "wrong", target.path(), &telemetry).as_bytes()).unwrap();
    let failed = dump(&spec, &database);
    for batch in failed.batches() {
        exporter.export(&batch).unwrap();
    }
    let find = || admin.runs(&instance).into_iter().find(|run| run["id"] == failed.id);
    gateway.eventually("the failed run", |_| find().is_some_and(|run| run["status"] == "error"));
    let listed = find().unwrap();
    assert_eq!((admin.runs(&instance).len(), &listed["exitCode"]), (2, &json!(1)));
    let message = listed["message"].as_str().unwrap();
    assert!(message.contains("Access denied"), "{listed}");
    let path = format!("/admin/instances/{}/runs", instance.id);
    for (status, id) in [("ok", &run.id), ("error", &failed.id)] {
        let found = admin.get(&format!("{path}?status={status}"));
        assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
        assert_eq!(found[0]["id"], *id);
    }
    gateway.stop();
}

/// Compressed bodies, old paths, and the path of an exporter that was given a host only. What is no OTLP in Protocol
/// Buffers is dropped, and the backup goes on.
#[test]
fn spans_come_in_all_the_ways_that_exporters_have() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let port = gateway.port();
    for path in ["/engines/telemetry/{}/traces", "/telemetry/{}/traces", "/v1/traces"] {
        let instance = admin.register(&mounted);
        let run = Run::example(7);
        let mut exporter = Exporter::new(&instance.remote(port, path)).gzip();
        exporter.export(&run.spans()).unwrap();
        gateway.eventually("the run", |_| {
            let runs = admin.runs(&instance);
            runs.len() == 1 && runs[0]["id"] == run.id && runs[0]["bytes"] == 7
        });
    }
    let (one, other) = (admin.register(&mounted), admin.register(&mounted));
    let refused = |exporter: &mut Exporter, body: &[u8]| match exporter.export_bytes(body.to_vec())
    {
        Err(Dropped::Refused(answer)) => answer.status,
        other => panic!("{other:?}"),
    };
    let mut exporter = Exporter::new(&one.traces(port));
    assert_eq!(refused(&mut exporter, b"\xff\xff\xff"), 400);
    assert_eq!(exporter.export(&[]).unwrap().status, 200, "no spans are no failure");
    let foreign = Remote { credentials: one.seed.credentials(), ..other.traces(port) };
    assert_eq!(refused(&mut Exporter::new(&foreign), b""), 404);
    assert!(admin.runs(&one).is_empty() && admin.runs(&other).is_empty());
    gateway.stop();
}
