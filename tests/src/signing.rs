//! A minisign key, and signatures made with it.

use std::path::Path;

use minisign::KeyPair;

/// A key pair.
pub struct Signer(KeyPair);

impl Signer {
    /// A new key pair.
    #[expect(clippy::new_without_default, reason = "each one is different")]
    pub fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    /// Its public key, as written in a configuration.
    pub fn key(&self) -> String {
        self.0.pk.to_base64()
    }

    /// The content of a `.minisig` file: a signature of these bytes with a trusted comment.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        minisign::sign(None, &self.0.sk, bytes, Some(comment), None).unwrap().into_string()
    }

    /// Signs a component and puts the signature beside its file.
    pub fn sign_file(&self, component: &Path, comment: &str) {
        let signature = self.sign(&std::fs::read(component).unwrap(), comment);
        std::fs::write(signature_of(component), signature).unwrap();
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.key()).finish()
    }
}

/// The path at which the signature of a component is expected.
pub fn signature_of(component: &Path) -> std::path::PathBuf {
    component.with_extension("wasm.minisig")
}
