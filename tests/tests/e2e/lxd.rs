//! Backups of instances of a real LXD in a bucket: they can be restored, with the gateway and without it, and nothing is
//! left of those that fail.

mod broken;
mod buckets;
mod clients;
mod load;
mod notifications;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::lxd::LxdServer;
use keepgate_tests::program::LONG;
use keepgate_tests::s3::S3Server;
use keepgate_tests::tools;
use serde_json::{Value, json};

const UPSTREAMS: &str = "upstreams = { lxd = \"lxd\" }";

/// A gateway for an LXD, with a bucket.
fn setup(server: &S3Server, further: &str) -> Setup {
    let setup = Setup::new().in_bucket(server, "backups", further).mount("/", "lxd", UPSTREAMS);
    setup.install("lxd", &tools::plugin("lxd"));
    setup
}

fn random(length: u64) -> Vec<u8> {
    Blob::new(length, length).bytes()
}

/// The names of the objects of an instance, without the gateway's own.
fn objects(server: &S3Server, instance: &str) -> Vec<String> {
    let folder = server.buckets().join("backups").join(instance);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".keepgate").collect();
    names.sort();
    names
}

#[track_caller]
fn post(endpoint: &Endpoint, path: &str) -> Value {
    let reply = endpoint.post(path, b"");
    let answer = reply.json();
    assert_eq!((reply.status, &answer["type"]), (202, &json!("async")), "{answer}");
    answer
}

/// The operation, once it has ended.
#[track_caller]
fn end(endpoint: &Endpoint, started: &Value) -> Value {
    let path = format!("{}/wait?timeout=60", started["operation"].as_str().unwrap());
    endpoint.get(&path).json()["metadata"].clone()
}

/// Makes a backup, and returns its name without the suffix.
#[track_caller]
fn back_up(endpoint: &Endpoint, path: &str) -> String {
    let started = post(endpoint, path);
    let ended = end(endpoint, &started);
    assert_eq!(ended["status"], "Success", "{ended}");
    let name = started["metadata"]["name"].as_str().unwrap();
    name.strip_suffix(".tar.gz").unwrap().to_owned()
}

/// Waits until a backup is in this state.
#[track_caller]
fn reaches(endpoint: &Endpoint, backup: &str, state: &str) {
    let until = Instant::now() + LONG;
    loop {
        let answer = endpoint.get(backup).json();
        if answer["metadata"]["state"] == state {
            return;
        }
        assert!(Instant::now() < until, "{answer}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn whole(lxd: &LxdServer, server: &S3Server, upstream: &str) {
    let setup = setup(server, "").table(upstream);
    setup.write();
    let check = tools::run(setup.check_command()).success();
    assert!(check.contains("upstream lxd  connected"), "{check}");
    let gateway = setup.start();
    let endpoint = gateway.endpoint();
    let backups = "/1.0/instances/c1/backups";
    let data = random(3_000_000);
    lxd.instance("c1", &data);
    lxd.run(&["profile", "create", "p1"]);
    lxd.run(&["profile", "set", "p1", "limits.cpu", "2"]);
    lxd.run(&["profile", "add", "c1", "p1"]);
    lxd.run(&["snapshot", "c1", "s0"]);

    let base = back_up(&endpoint, &format!("{backups}?tags=os%3Dbusybox"));
    let expected = ["_instance.tar.gz", "_profile_000_default.yaml", "_profile_001_p1.yaml"];
    let expected = expected.map(|end| format!("{base}{end}"));
    // The claim of the name goes when the job has ended.
    gateway.eventually("the objects of a backup", |_| objects(server, "c1") == expected);
    gateway.eventually("LXD keeps no backup", |_| lxd.backups("c1") == 0);
    let info = endpoint.get(&format!("{backups}/{base}")).json()["metadata"].clone();
    let object = server.buckets().join("backups/c1").join(format!("{base}_instance.tar.gz"));
    assert_eq!(info["size"], fs::metadata(&object).unwrap().len());
    assert_eq!((&info["tags"], &info["compressed"]), (&json!({"os": "busybox"}), &json!(true)));
    let list = endpoint.get("/1.0/instances/*/backups").json()["metadata"].clone();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &info["name"]));

    // Without the gateway.
    lxd.run(&["import", object.to_str().unwrap(), "c9"]);
    assert!(fs::read(lxd.file("c9")).unwrap() == data);
    lxd.run(&["delete", "c9"]);

    let taken = endpoint.post(&format!("{backups}/{base}"), b"");
    assert_eq!(taken.status, 409, "{}", taken.text());
    lxd.run(&["delete", "c1"]);
    lxd.run(&["profile", "delete", "p1"]);
    let restored = end(&endpoint, &post(&endpoint, &format!("{backups}/{base}?start=false")));
    assert_eq!(restored["status"], "Success", "{restored}");
    assert!(fs::read(lxd.file("c1")).unwrap() == data);
    assert_eq!(lxd.get("/1.0/instances/c1/snapshots").as_array().unwrap().len(), 1);
    assert_eq!(lxd.get("/1.0/profiles/p1")["config"]["limits.cpu"], "2");
    let other = format!("{backups}/{base}?as=c2&start=false&pool=default");
    assert_eq!(end(&endpoint, &post(&endpoint, &other))["status"], "Success");
    assert_eq!(lxd.instances(), ["c1", "c2"]);
    let refused = endpoint.post(&format!("{backups}/{base}?as=c3&pool=none"), b"");
    assert_eq!(refused.status, 400, "{}", refused.text());

    let prefix = &base[..base.len() - 1];
    assert_eq!(endpoint.status("DELETE", &format!("{backups}/{prefix}")), 404);
    assert_eq!(objects(server, "c1").len(), 3);
    assert_eq!(endpoint.status("DELETE", &format!("{backups}/{base}.tar.gz")), 200);
    assert_eq!(endpoint.status("DELETE", &format!("{backups}/{base}.tar.gz")), 404);
    assert!(objects(server, "c1").is_empty());
    gateway.stop();
}

#[test]
fn an_instance_is_backed_up_and_restored_over_the_socket() {
    let check = "backups of LXD over its socket";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    whole(&lxd, &server, &lxd.by_socket());
}

#[test]
fn an_instance_is_backed_up_and_restored_over_tls() {
    let check = "backups of LXD over TLS";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let upstream = lxd.by_tls(folder.path());
    whole(&lxd, &server, &upstream);
}
