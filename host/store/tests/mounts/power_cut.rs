//! What is acknowledged is on the disk: the image of a file system is copied while it is mounted, and each
//! copy is opened as after a power cut.

use super::*;

/// A copy of the disk made right after a call has returned is what a power cut would leave: it lacks
/// what the file system has not written yet.
#[tokio::test]
async fn acknowledged_blobs_survive_a_power_cut() {
    let test = "what_was_promised_survives_a_power_cut";
    let kinds: [&[&str]; 4] = [
        &["mkfs.xfs", "-q"],
        &["mkfs.btrfs", "-q"],
        &["mkfs.ext4", "-q"],
        &["mkfs.ext4", "-q", "-O", "^has_journal"],
    ];
    for mkfs in kinds {
        for unnamed in [true, false] {
            let dir = TempDir::new().unwrap();
            let root = dir.path().join("root");
            let Some(mount) = made_with(test, mkfs, dir.path(), &root) else { break };
            let store = open(&root, unnamed);
            let snapshot = |name: &str| {
                let mut copying = Command::new("cp");
                copying.arg("--sparse=always").arg(dir.path().join("image"));
                assert!(copying.arg(dir.path().join(name)).status().unwrap().success());
            };
            let content = bytes(100_000, 1);
            put(&store, "new/folder/blob", &content).await;
            snapshot("put");
            put(&store, "new/folder/blob", &bytes(50_000, 2)).await;
            snapshot("replaced");
            assert!(store.delete(&key("new/folder/blob")).await.unwrap().is_some());
            snapshot("deleted");
            let folders: Vec<_> = (0..20).map(|at| folder(&format!("ready/data/{at}"))).collect();
            store.prepare(&folders).await.unwrap();
            snapshot("prepared");
            // Another program's blob, not on the disk yet; then a client is told that it is stored.
            fs::create_dir(root.join("theirs")).unwrap();
            fs::write(root.join("theirs/blob"), &content).unwrap();
            let body = chunked(&content, 9999);
            let same = when(Condition::AbsentOrIdentical);
            store.put(&key("theirs/blob"), body, same).await.unwrap();
            snapshot("identical");
            let parts = [key("theirs/blob"), key("theirs/blob")];
            store
                .concat(&key("joined/blob"), &pieces(&parts), PutOptions::default())
                .await
                .unwrap();
            snapshot("joined");
            let (body, taken) = stalling((0..20).map(|seed| bytes(50_000, seed)).collect());
            let blob = key("unfinished");
            let mut upload = store.put(&blob, body, PutOptions::default());
            while taken.load(Ordering::Relaxed) < 20 {
                let turn = tokio::time::timeout(Duration::from_millis(1), &mut upload).await;
                assert!(turn.is_err());
            }
            put(&store, "last", &bytes(1, 1)).await;
            snapshot("unfinished");
            drop(upload);
            drop(store);
            drop(mount);

            let joined = [&content[..], &content[..]].concat();
            for (name, blob, expected) in [
                ("put", "new/folder/blob", Some(&content[..])),
                ("replaced", "new/folder/blob", Some(&bytes(50_000, 2)[..])),
                ("deleted", "new/folder/blob", None),
                ("prepared", "ready/data/19", None),
                ("identical", "theirs/blob", Some(&content[..])),
                ("joined", "joined/blob", Some(&joined[..])),
                ("unfinished", "last", Some(&bytes(1, 1)[..])),
            ] {
                let image = dir.path().join(name);
                if mkfs.contains(&"^has_journal") {
                    // What such a file system needs after a power cut. It exits with 1 if it
                    // repaired something.
                    let check = Command::new("e2fsck").arg("-fy").arg(&image).output().unwrap();
                    assert!(check.status.code().is_some_and(|code| code <= 1), "{check:?}");
                }
                let arguments = ["-o", "loop", image.to_str().unwrap()];
                let Some(mount) = Mount::new(test, &arguments, &root) else { panic!() };
                let found = fs::read(root.join(blob)).ok();
                assert!(found.as_deref() == expected, "{mkfs:?}, unnamed {unnamed}: {name}");
                if name == "prepared" {
                    assert_eq!(fs::read_dir(root.join("ready/data")).unwrap().count(), 20);
                }
                let store = open(&root, unnamed);
                assert_eq!(unfinished(&root), 0, "{mkfs:?}, unnamed {unnamed}: {name}");
                assert!(store.head(&key("unfinished")).await.is_err());
                // The sweep removed nothing that belongs to a blob.
                let found = fs::read(root.join(blob)).ok();
                assert!(found.as_deref() == expected, "{mkfs:?}, unnamed {unnamed}: {name}");
                put(&store, "after", &content).await;
                drop(store);
                drop(mount);
            }
        }
    }
}
