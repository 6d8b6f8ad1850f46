//! Backups of instances of a real LXD in a bucket: they can be restored, with the gateway and without it, and nothing is
//! left of those that fail.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::Setup;
use keepgate_tests::lxd::LxdServer;
use keepgate_tests::program::{LONG, keepgate};
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
    assert_eq!(lxd.instances(), ["c1", "c2", "c9"]);
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

/// A backup that ends in the middle is never listed, and nothing of it is left in LXD or in the bucket.
#[test]
fn nothing_is_left_of_a_backup_that_breaks_off() {
    let check = "backups of LXD that break off";
    let (Some(mut lxd), Some(mut server)) = (LxdServer::find(check), S3Server::find(check)) else {
        return;
    };
    let setup = setup(&server, "give_up_after = \"2s\"").table(&lxd.by_socket());
    lxd.instance("c1", &random(200_000_000));
    let path = "/1.0/instances/c1/backups";
    let mut gateway = setup.start();
    for (round, state) in ["generating", "uploading", "uploading"].iter().enumerate() {
        let endpoint = gateway.endpoint();
        let started = post(&endpoint, &format!("{path}?compression=none"));
        let name = started["metadata"]["name"].as_str().unwrap().to_owned();
        let shown = format!("{path}/{name}");
        let info = |endpoint: &Endpoint| endpoint.get(&shown).json()["metadata"].clone();
        let until = Instant::now() + LONG;
        while info(&endpoint)["state"] != *state {
            assert!(Instant::now() < until, "{}", info(&endpoint));
            thread::sleep(Duration::from_millis(2));
        }
        if round == 2 {
            server.kill();
            gateway.eventually("it fails", |_| {
                let ended = end(&endpoint, &started);
                ended["status"] == "Failure"
            });
            server.start_again();
        } else {
            gateway.program.kill();
            drop(gateway);
            gateway = setup.start();
        }
        gateway.eventually("LXD keeps no backup", |_| lxd.backups("c1") == 0);
        gateway.eventually("nothing is left", |_| objects(&server, "c1").is_empty());
        let endpoint = gateway.endpoint();
        gateway.eventually("it has failed", |_| info(&endpoint)["state"] == "failed");
        assert_eq!(endpoint.get(path).json()["metadata"], json!([]));
    }
    gateway.eventually("no parts are left", |_| server.unfinished_uploads() == 0);

    // LXD is away: what needs it is 503, and what is stored can be looked at.
    lxd.kill();
    let endpoint = gateway.endpoint();
    let reply = endpoint.post(path, b"");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("10")), "{}", reply.text());
    assert_eq!(endpoint.get(path).status, 200);
    lxd.start_again();
    back_up(&endpoint, path);
    gateway.stop();
}

/// Clients prove who they are by certificates, as with LXD itself.
#[test]
fn clients_of_lxd_present_certificates() {
    let check = "LXD's clients with certificates";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let Some(curl) = tools::find_for("curl", check) else { return };
    let setup = Setup::new()
        .tls()
        .in_bucket(&server, "backups", "")
        .table(&lxd.by_socket())
        .table("[auth.clients]\nfingerprints = \"clients\"")
        .accepting("clients")
        .mount(
            "/",
            "lxd",
            &format!("{UPSTREAMS}\nsettings = {{ instances = {{ ann = [\"c*\"] }} }}"),
        );
    setup.install("lxd", &tools::plugin("lxd"));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let files: [PathBuf; 2] = [setup.path("ann.crt"), setup.path("ann.key")];
    fs::write(&files[0], certificate.pem()).unwrap();
    fs::write(&files[1], key.serialize_pem()).unwrap();
    let listed = tools::run(keepgate(&[
        "certificate",
        "fingerprint",
        files[0].to_str().unwrap(),
        "--name",
        "ann",
    ]));
    fs::write(setup.path("clients"), listed.success()).unwrap();
    let gateway = setup.start();
    let port = gateway.port();
    let ask = |version: &str, more: &[&str], path: &str| {
        let mut command = Command::new(&curl);
        command.args([
            "--silent",
            "--show-error",
            version,
            "--write-out",
            "\n%{http_code}",
            "--cacert",
        ]);
        command.arg(setup.certificate()).args(more);
        command.arg(format!("https://127.0.0.1:{port}/1.0/instances/{path}"));
        let said = tools::run(command).success();
        let (body, status) = said.trim_end().rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(body).unwrap())
    };
    let own = ["--cert", files[0].to_str().unwrap(), "--key", files[1].to_str().unwrap()];
    for version in ["--http1.1", "--http2"] {
        let (status, answer) = ask(version, &own, "c1/backups");
        assert_eq!((status.as_str(), &answer["metadata"]), ("200", &json!([])));
        for (more, path) in [(&own[..], "d1/backups"), (&[][..], "c1/backups")] {
            let (status, answer) = ask(version, more, path);
            assert_eq!((status.as_str(), &answer["error"]), ("403", &json!("not authorized")));
            assert_eq!((&answer["type"], &answer["error_code"]), (&json!("error"), &json!(403)));
        }
    }
    gateway.stop();
}
