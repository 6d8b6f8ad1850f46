//! Half a gigabyte of a snapshot passes through a few megabytes of memory, from etcd to the store, and
//! from there to the client that restores it.

use std::time::{Duration, Instant};

use keepgate_tests::data::sha256;
use keepgate_tests::etcd::Etcd;
use keepgate_tests::tools;

use super::{LIST, assert_store_has, back_up, name, path_of, setup};

/// How much more memory it may need than an idle gateway that has taken a small backup: pieces on their
/// way between etcd, the compressor and the disk, and what the allocator keeps of them.
const MOST: u64 = 40 << 20;
const SIZE: u64 = 500 << 20;

#[test]
fn half_a_gigabyte_takes_little_memory() {
    let Some(etcd) = Etcd::debian("memory for a large etcd backup") else { return };
    let _turn = tools::one_at_a_time();
    let member = etcd.start();
    member.put("key", "value");
    let setup = setup(&[member.url()], "");
    let gateway = setup.start();
    let client = gateway.endpoint();
    let small = name(&back_up(&gateway));
    let idle = gateway.program.memory("VmHWM");
    member.fill(0, SIZE >> 20, 1 << 20);

    let begun = Instant::now();
    let prefer = [("prefer", "respond-async")];
    let reply = client.send("POST", LIST, &prefer, b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    let location = path_of(reply.header("location").unwrap());
    let end = begun + Duration::from_secs(300);
    let answer = loop {
        let job = client.get(&location).json();
        match job["state"].as_str() {
            Some("succeeded") => break job["result"].clone(),
            Some("queued" | "running") => {
                assert!(Instant::now() < end, "{job}");
                std::thread::sleep(Duration::from_millis(100));
            }
            _ => panic!("{job}"),
        }
    };
    let took = begun.elapsed();
    assert!(answer["snapshot_size"].as_u64().unwrap() > SIZE, "{answer}");
    // Random bytes do not compress.
    assert!(answer["filesize"].as_u64().unwrap() > SIZE, "{answer}");
    let backed_up = gateway.program.memory("VmHWM") - idle;

    let large = name(&answer);
    let mut connection = client.connect();
    connection.write_head("GET", &format!("{LIST}/{large}"), &[]).unwrap();
    let mut download = connection.download("GET").unwrap();
    assert_eq!(download.head.status, 200);
    assert_eq!(answer["sha256"], sha256(&mut download));
    let downloaded = gateway.program.memory("VmHWM") - idle;
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    tools::report(&format!(
        "memory: a 500 MiB snapshot of etcd in {took:.1?}: {:.1} MiB more than idle ({:.1} MiB), \
         {:.1} after the download",
        mib(backed_up),
        mib(idle),
        mib(downloaded),
    ));
    assert!(downloaded < MOST, "{downloaded} bytes");
    assert_store_has(&setup, &[small, large]);
    gateway.stop();
}
