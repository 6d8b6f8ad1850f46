//! Many backups at the same time, and a large one.

use std::collections::BTreeSet;
use std::fs::File;
use std::thread;

use keepgate_tests::lxd::LxdServer;
use keepgate_tests::s3::S3Server;
use keepgate_tests::{tools, tree};

use super::{back_up, end, objects, post, setup};

#[test]
fn backups_of_several_instances_are_made_at_the_same_time() {
    let check = "many backups of LXD at the same time";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let gateway = setup(&server, "").table(&lxd.by_socket()).start();
    let endpoint = gateway.endpoint();
    let instances: Vec<_> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &instances {
        lxd.instance(name, name.as_bytes());
    }
    let started: Vec<_> = thread::scope(|scope| {
        let all = instances.iter().flat_map(|name| [name; 4]);
        let posts: Vec<_> = all
            .map(|name| {
                let path = format!("/1.0/instances/{name}/backups?compression=none");
                let endpoint = &endpoint;
                scope.spawn(move || (name.clone(), post(endpoint, &path)))
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let mut names = BTreeSet::new();
    for (instance, started) in &started {
        let ended = end(&endpoint, started);
        assert_eq!(ended["status"], "Success", "{ended}");
        names.insert((instance, started["metadata"]["name"].as_str().unwrap()));
    }
    assert_eq!(names.len(), 32, "{names:?}");
    for name in &instances {
        gateway.eventually("LXD keeps no backup", |_| lxd.backups(name) == 0);
        // Each with one profile; the claims are gone.
        gateway.eventually("each backup is stored", |_| objects(&server, name).len() == 8);
    }
    gateway.stop();
}

/// Neither memory nor disk depends on the size of an instance.
#[test]
fn a_large_instance_needs_little_memory_and_no_disk() {
    let check = "the backup of a large instance of LXD";
    let (Some(lxd), Some(server)) = (LxdServer::find(check), S3Server::find(check)) else { return };
    let _alone = tools::one_at_a_time();
    let setup = setup(&server, "").table(&lxd.by_socket());
    let gateway = setup.start();
    let endpoint = gateway.endpoint();
    lxd.instance("c1", b"small");
    let path = "/1.0/instances/c1/backups?compression=none";
    let small = format!("/1.0/instances/c1/backups/{}?as=c2&start=false", back_up(&endpoint, path));
    assert_eq!(end(&endpoint, &post(&endpoint, &small))["status"], "Success");
    let before = gateway.program.memory("VmHWM");
    File::options().write(true).open(lxd.file("c1")).unwrap().set_len(1 << 30).unwrap();
    let large = back_up(&endpoint, path);
    let target = format!("/1.0/instances/c1/backups/{large}");
    assert!(endpoint.get(&target).json()["metadata"]["size"].as_u64().unwrap() > 1 << 30);
    let restore = format!("{target}?as=c3&start=false");
    assert_eq!(end(&endpoint, &post(&endpoint, &restore))["status"], "Success");
    assert_eq!(lxd.file("c3").metadata().unwrap().len(), 1 << 30);
    let grown = gateway.program.memory("VmHWM") - before;
    tools::report(&format!("LXD, an instance of 1 GiB: {} MiB of memory", grown >> 20));
    // The store sends four parts of 16 MiB at the same time and fills another one.
    assert!(grown < 128 << 20, "{} MiB", grown >> 20);
    let folder = setup.path("");
    let kept = tree::files(&folder).into_iter().map(|file| folder.join(file));
    let kept: u64 = kept.map(|file| file.metadata().map_or(0, |file| file.len())).sum();
    assert!(kept < 64 << 20, "{} MiB", kept >> 20);
    gateway.stop();
}
