//! What a blob gets from its folder, whether its upload had a name first or not: group and default ACL, as
//! of a file that was made there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use keepgate_store::PutOptions;
use rustix::fs::XattrFlags;

use super::*;

const DEFAULT: &str = "system.posix_acl_default";
const ACCESS: &str = "system.posix_acl_access";

/// An ACL that gives user 4711 read access, as the kernel stores it.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 4, 4711), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)];
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()));
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[tokio::test]
async fn a_blob_has_the_group_and_the_acl_of_its_folder() {
    for dir in places() {
        for features in [Features::default(), named()] {
            let root = dir.path().join(format!("{}", features.unnamed_files));
            let options = DiskOptions { features, file_mode: 0o660, ..DiskOptions::default() };
            let store: Store = Arc::new(DiskStore::open(&root, options).unwrap());
            let folder = root.join("shared");
            fs::create_dir(&folder).unwrap();
            if chown(&folder, None, Some(4712)).is_err() {
                eprintln!("SKIPPED the group and ACL of a folder: requires root");
                return;
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o2775)).unwrap();
            let set = rustix::fs::setxattr(&folder, DEFAULT, &acl(), XattrFlags::empty());
            if let Err(error) = set {
                eprintln!("SKIPPED the ACL of a folder in {}: {error}", root.display());
            }
            for name in ["shared/blob", "shared/deep/er/blob"] {
                // New, and replaced.
                for seed in [1, 2] {
                    let body = chunked(&bytes(300_000, seed), 50_000);
                    store.put(&key(name), body, PutOptions::default()).await.unwrap();
                    let path = root.join(name);
                    assert_eq!(fs::metadata(&path).unwrap().gid(), 4712, "{name}, {features:?}");
                    // The kernel's own work on a file made there.
                    let theirs = path.with_file_name("theirs");
                    let made = fs::OpenOptions::new().create(true).append(true).open(&theirs);
                    drop(made.unwrap());
                    let read = |path: &Path| {
                        let mut value = [0; 256];
                        let length = rustix::fs::getxattr(path, ACCESS, &mut value);
                        length.map(|length| value[..length].to_vec()).ok()
                    };
                    let (ours, expected) = (read(&path), read(&theirs));
                    assert_eq!(ours.is_some(), set.is_ok(), "{name}, {features:?}");
                    let entry = 4711_u32.to_le_bytes();
                    let has = |acl: &Option<Vec<u8>>| {
                        acl.as_ref().is_none_or(|acl| acl.windows(4).any(|part| part == entry))
                    };
                    assert!(has(&ours) && has(&expected), "{name}: {ours:?}, {expected:?}");
                    fs::remove_file(theirs).unwrap();
                }
            }
        }
    }
}
