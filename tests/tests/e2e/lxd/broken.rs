//! LXD, the bucket and the gateway are killed in the middle: no backup is listed that is not whole, and nothing is left.

use keepgate_tests::gateway::Gateway;
use keepgate_tests::lxd::LxdServer;
use keepgate_tests::s3::S3Server;
use serde_json::json;

use super::{back_up, end, objects, post, random, setup};

const PATH: &str = "/1.0/instances/c1/backups";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Gateway,
    Bucket,
    Lxd,
}

use Killed::{Bucket, Gateway as Keepgate, Lxd};

#[test]
fn nothing_is_left_of_a_backup_that_breaks_off() {
    let check = "backups of LXD that break off";
    let (Some(mut lxd), Some(mut server)) = (LxdServer::find(check), S3Server::find(check)) else {
        return;
    };
    let setup = setup(&server, "give_up_after = \"2s\"").table(&lxd.by_socket());
    lxd.instance("c1", &random(200_000_000));
    let mut gateway = setup.start();
    for (killed, state) in [
        (Keepgate, "generating"),
        (Keepgate, "uploading"),
        (Lxd, "generating"),
        (Lxd, "uploading"),
        (Bucket, "generating"),
        (Bucket, "uploading"),
    ] {
        let endpoint = gateway.endpoint();
        let started = post(&endpoint, &format!("{PATH}?compression=none"));
        let shown = format!("{PATH}/{}", started["metadata"]["name"].as_str().unwrap());
        super::reaches(&endpoint, &shown, state);
        match killed {
            Keepgate => {
                gateway.program.kill();
                drop(gateway);
                gateway = setup.start();
            }
            Bucket => {
                server.kill();
                let ended = end(&endpoint, &started);
                assert_eq!(ended["status"], "Failure", "{killed:?} {state}: {ended}");
                server.start_again();
            }
            Lxd => {
                lxd.kill();
                lxd.start_again();
            }
        }
        let endpoint = gateway.endpoint();
        let ended = end(&endpoint, &started);
        gateway.eventually("LXD keeps no backup", |_| lxd.backups("c1") == 0);
        if (killed, state) == (Lxd, "uploading") && ended["status"] == "Success" {
            // LXD is there again, and the rest was read from the same byte on.
            let info = endpoint.get(&shown).json();
            assert!(info["metadata"]["size"].as_u64().unwrap() > 200_000_000, "{info}");
            gateway.eventually("it is removed", |_| endpoint.status("DELETE", &shown) == 200);
            continue;
        }
        assert_eq!(ended["status"], "Failure", "{killed:?} {state}: {ended}");
        gateway.eventually("nothing is left", |_| objects(&server, "c1").is_empty());
        assert_eq!(endpoint.get(&shown).json()["metadata"]["state"], "failed");
        assert_eq!(endpoint.get(PATH).json()["metadata"], json!([]));
    }
    gateway.eventually("no parts are left", |_| server.unfinished_uploads() == 0);

    // LXD is away: what needs it is 503, and what is stored can be looked at.
    lxd.kill();
    let endpoint = gateway.endpoint();
    let reply = endpoint.post(PATH, b"");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("10")), "{}", reply.text());
    assert_eq!(endpoint.get(PATH).status, 200);
    lxd.start_again();
    back_up(&endpoint, PATH);
    gateway.stop();
}

#[test]
fn a_restore_that_breaks_off_can_be_done_again() {
    let check = "restores of LXD's instances that break off";
    let (Some(mut lxd), Some(mut server)) = (LxdServer::find(check), S3Server::find(check)) else {
        return;
    };
    let setup = setup(&server, "give_up_after = \"2s\"").table(&lxd.by_socket());
    lxd.instance("c1", &random(400_000_000));
    lxd.run(&["profile", "create", "p1"]);
    lxd.run(&["profile", "add", "c1", "p1"]);
    let mut gateway = setup.start();
    let base = back_up(&gateway.endpoint(), &format!("{PATH}?compression=none"));
    gateway.eventually("LXD keeps no backup", |_| lxd.backups("c1") == 0);
    lxd.run(&["delete", "c1"]);
    lxd.run(&["profile", "delete", "p1"]);
    let target = format!("{PATH}/{base}?start=false");
    for killed in [Keepgate, Lxd, Bucket] {
        let endpoint = gateway.endpoint();
        let started = post(&endpoint, &target);
        wait_for_import(&gateway, &started);
        match killed {
            Keepgate => {
                gateway.program.kill();
                drop(gateway);
                gateway = setup.start();
            }
            Bucket => server.kill(),
            Lxd => {
                lxd.kill();
                lxd.start_again();
            }
        }
        let ended = end(&gateway.endpoint(), &started);
        assert_eq!(ended["status"], "Failure", "{killed:?}: {ended}");
        if killed == Bucket {
            server.start_again();
        }
        gateway.eventually("no instance is left", |_| lxd.instances().is_empty());
        gateway.eventually("the profile is gone", |_| {
            lxd.get("/1.0/profiles") == json!(["/1.0/profiles/default"])
        });
        gateway.eventually("what was recorded is gone", |_| objects(&server, "c1").len() == 3);
    }
    let ended = end(&gateway.endpoint(), &post(&gateway.endpoint(), &target));
    assert_eq!(ended["status"], "Success", "{ended}");
    assert_eq!(lxd.instances(), ["c1"]);
    gateway.stop();
}

/// Waits until a part of the instance has gone to LXD.
#[track_caller]
fn wait_for_import(gateway: &Gateway, started: &serde_json::Value) {
    let operation = started["operation"].as_str().unwrap();
    gateway.eventually("the instance is on its way", |gateway| {
        let shown = gateway.endpoint().get(operation).json()["metadata"].clone();
        let done = shown["metadata"]["done"].as_u64().unwrap_or_default();
        shown["metadata"]["phase"] == "importing" && done > 1_000_000
    });
}
