//! A folder in which the `openssl` program makes certificates, and handshakes in memory.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustls::Connection;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// `None` with a line if there is no openssl.
    pub(crate) fn new(check: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped, there is no openssl here: {check}");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn openssl(&self, arguments: &str) {
        let words = arguments.split(' ').filter(|word| !word.is_empty());
        let output = Command::new("openssl").args(words).current_dir(self.0.path()).output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `NAME.key`, and `NAME.pem`, which is its own authority.
    pub(crate) fn self_signed(&self, name: &str, key: &str, further: &str) {
        self.openssl(&format!("genpkey {key} -out {name}.key"));
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -out {name}.pem -days 100 -subj /CN={name}{further}"
        ));
    }

    /// `ca.pem`, and `leaf.pem` with `leaf.key` signed by it.
    pub(crate) fn signed(&self) {
        self.self_signed("ca", P256, "");
        self.openssl(&format!("genpkey {P256} -out leaf.key"));
        self.openssl("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
        self.write("names", "subjectAltName=DNS:localhost\n");
        self.openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 100 -extfile names \
             -out leaf.pem",
        );
    }
}

pub(crate) const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
pub(crate) const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
pub(crate) const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
pub(crate) const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
pub(crate) const LOCALHOST: &str = " -addext subjectAltName=DNS:localhost";

/// Passes bytes between two ends until the handshake has ended.
pub(crate) fn shake_hands(client: &mut Connection, server: &mut Connection) -> Result<(), String> {
    for _ in 0..10 {
        pass(client, server)?;
        pass(server, client)?;
    }
    match client.is_handshaking() || server.is_handshaking() {
        true => Err("the handshake did not end".to_owned()),
        false => Ok(()),
    }
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}
