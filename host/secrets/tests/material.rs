//! Which files are keys, and which bytes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use keepgate_secrets::material::MAX_FILE;
use keepgate_secrets::{HmacKey, Material, MaterialError};

/// Reads a file of these bytes.
fn read(bytes: &[u8]) -> Result<Material, MaterialError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, bytes).unwrap();
    Material::read(&file, 16)
}

fn mac(material: &Material) -> Vec<u8> {
    HmacKey::new(material).sign(b"message")
}

#[test]
fn line_breaks_at_the_end_of_a_text_are_not_part_of_the_key() {
    let plain = mac(&Material::of(b"sixteen characters"));
    for text in ["sixteen characters", "sixteen characters\n", "sixteen characters\r\n\n"] {
        assert_eq!(mac(&read(text.as_bytes()).unwrap()), plain, "{text:?}");
    }
    for other in ["sixteen characters ", "\nsixteen characters", "sixteen\ncharacters"] {
        assert_ne!(mac(&read(other.as_bytes()).unwrap()), plain, "{other:?}");
    }
}

#[test]
fn every_byte_of_a_file_that_is_no_text_is_part_of_the_key() {
    let bytes = b"\xff\xfe no text at all \n\n";
    assert_eq!(mac(&read(bytes).unwrap()), mac(&Material::of(bytes)));
}

#[test]
fn files_that_cannot_be_keys_are_refused_with_the_reason() {
    let why = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(why(b""), "it has 0 bytes; a key needs 16 or more");
    assert_eq!(why(b"fifteen letters\n"), "it has 15 bytes; a key needs 16 or more");
    assert_eq!(why(&[0; 64]), "all of its bytes are the same, so it is no key");
    assert!(why(&vec![1; MAX_FILE + 1]).contains("longer than 4096 bytes"));
    let most: Vec<u8> = (0..=250).cycle().take(MAX_FILE).collect();
    assert!(read(&most).is_ok());
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Material::read(&folder.path().join("none"), 16).unwrap_err();
    assert!(missing.is_missing() && missing.to_string().contains("No such file"), "{missing}");
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for path in [folder.path(), fifo.as_path(), "/dev/zero".as_ref()] {
        let path = path.to_owned();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(Material::read(&path, 16).unwrap_err().to_string()));
        assert_eq!(receive.recv_timeout(Duration::from_secs(60)).unwrap(), "it is not a file");
    }
}

#[test]
fn whether_others_may_read_the_file_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, "sixteen characters").unwrap();
    for (mode, others) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Material::read(&file, 16).unwrap().others_may_read, others, "{mode:o}");
    }
}
