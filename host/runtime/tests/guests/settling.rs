//! Files that cannot be used are refused once, and a file that is away for a moment is missed by nobody.

use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn what_stays_unusable_is_refused_once() {
    let mut bench = Bench::new();
    bench.put("hostile.wasm", &guest("hostile"));
    bench.put("junk.wasm", b"#!/bin/sh\n");
    bench.put("half.wasm", &guest("hostile")[..1000]);
    let large = fs::File::create(bench.file("large.wasm")).unwrap();
    large.set_len(1 << 40).unwrap();
    // Links in a circle cannot be read even by root.
    symlink("circle.wasm", bench.file("circle.wasm")).unwrap();
    // These are no files at all.
    symlink("nowhere", bench.file("dangling.wasm")).unwrap();
    fs::create_dir(bench.file("folder.wasm")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.file("socket.wasm")).unwrap();
    let specs = [spec("/", "hostile", |_| {})];
    let generation = bench.generation(&specs).await;
    let refused: Vec<_> = generation.refused.iter().map(|r| r.what.rsplit('/').next()).collect();
    let expected = ["circle.wasm", "half.wasm", "junk.wasm", "large.wasm"];
    assert_eq!(refused, expected.map(Some), "{:?}", generation.refused);
    for round in 0..3_u16 {
        // As events do: something else in the folder changes, and a large or half file grows.
        bench.put(".hidden", b"");
        large.set_len((1 << 40) + u64::from(round)).unwrap();
        fs::write(bench.file("half.wasm"), &guest("hostile")[..2000 + usize::from(round)]).unwrap();
        let scanned = bench.loader.scan().await;
        assert!(!scanned.changed && scanned.settled, "round {round}: {scanned:?}");
    }
    let refusals = |name: &str| {
        let families = bench.registry.gather();
        let loads = families.iter().find(|family| family.name() == "keepgate_plugin_loads_total");
        let counts = loads.unwrap().get_metric().iter();
        let of_file = counts.filter(|metric| {
            let is = |name, value| {
                metric.get_label().iter().any(|l| l.name() == name && l.value() == value)
            };
            is("plugin", name) && is("result", "refused")
        });
        of_file.map(|metric| metric.get_counter().get_value()).sum::<f64>()
    };
    for name in ["circle", "half", "junk", "large"] {
        assert_eq!(refusals(name), 1.0, "{name}");
    }

    // Other junk is news, and so is a file that can be used.
    bench.put("junk.wasm", b"#!/bin/bash\n");
    assert!(bench.loader.scan().await.changed);
    fs::remove_file(bench.file("circle.wasm")).unwrap();
    bench.put("circle.wasm", &guest("hostile"));
    let generation = bench.generation(&specs).await;
    assert_eq!(generation.refused.len(), 3, "{:?}", generation.refused);
}

#[tokio::test]
async fn a_plugin_whose_file_becomes_unreadable_stays() {
    let mut bench = Bench::new();
    let specs = [spec("/", "hostile", |_| {})];
    bench.put("hostile.wasm", &guest("hostile"));
    bench.generation(&specs).await;
    fs::rename(bench.file("hostile.wasm"), bench.file("kept")).unwrap();
    symlink("hostile.wasm", bench.file("hostile.wasm")).unwrap();
    let generation = bench.generation(&specs).await;
    assert!(generation.refused[0].older_serves, "{:?}", generation.refused);
    assert_eq!(text(get(&generation.mounts[0], "/hello").await.unwrap()).await, "hello ann");
    fs::rename(bench.file("kept"), bench.file("hostile.wasm")).unwrap();
    assert!(bench.generation(&specs).await.refused.is_empty());
}

#[tokio::test]
async fn a_file_that_is_away_for_a_moment_is_not_missed() {
    let mut bench = Bench::new();
    let specs = [spec("/", "hostile", |_| {})];
    bench.put("hostile.wasm", &guest("hostile"));
    let before = bench.generation(&specs).await;
    fs::rename(bench.file("hostile.wasm"), bench.file("old")).unwrap();
    let scanned = bench.loader.scan().await;
    assert!(!scanned.changed && !scanned.settled, "{scanned:?}");
    assert_eq!(bench.loader.plugins().len(), 1);
    // The same file again: nothing has happened.
    fs::rename(bench.file("old"), bench.file("hostile.wasm")).unwrap();
    let scanned = bench.loader.scan().await;
    assert!(!scanned.changed && scanned.settled, "{scanned:?}");
    let after = bench.loader.generation(&specs).await;
    assert!(Arc::ptr_eq(&before.mounts[0], &after.mounts[0]));
    // Another one, written slowly.
    let newer = [guest("hostile"), b"\0\x02\x01x".to_vec()].concat();
    fs::rename(bench.file("hostile.wasm"), bench.file("old")).unwrap();
    bench.loader.scan().await;
    fs::write(bench.file("hostile.wasm"), &newer[..newer.len() / 2]).unwrap();
    assert!(!bench.loader.scan().await.changed);
    fs::write(bench.file("hostile.wasm"), &newer).unwrap();
    let scanned = bench.loader.scan().await;
    assert!(scanned.changed && scanned.settled, "{scanned:?}");
    assert!(bench.loader.generation(&specs).await.refused.is_empty());
    // A file that stays away is unloaded, and the message says what is there instead.
    fs::remove_file(bench.file("hostile.wasm")).unwrap();
    symlink("nowhere", bench.file("hostile.wasm")).unwrap();
    let generation = bench.generation(&specs).await;
    assert!(bench.loader.plugins().is_empty());
    let why = &generation.refused[0].why;
    assert!(why.contains("is a link to nowhere, which is not a file"), "{why}");
}

#[tokio::test]
async fn only_the_named_plugins_are_loaded() {
    let mut bench = Bench::new();
    bench.loader = bench.loader.with_only(Some(["hostile".to_owned()].into()));
    bench.put("hostile.wasm", &guest("hostile"));
    bench.put("restic.wasm", &restic());
    bench.put("junk.wasm", b"junk");
    let generation = bench.generation(&[]).await;
    let names: Vec<_> = generation.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!((names, generation.refused.len()), (vec!["hostile"], 0));
    assert_eq!(fs::read_dir(bench.code.path()).unwrap().count(), 1, "others were compiled");
}
