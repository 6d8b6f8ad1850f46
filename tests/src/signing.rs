//! A key of minisign's, and signatures by it.

use std::path::Path;

use minisign::KeyPair;

/// A key pair of its own.
pub struct Signer(KeyPair);

impl Signer {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    /// Its public key, as a configuration names it.
    pub fn key(&self) -> String {
        self.0.pk.to_base64()
    }

    /// A signature of these bytes that says `comment` of them: what a `.minisig` file holds.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        minisign::sign(None, &self.0.sk, bytes, Some(comment), None).unwrap().into_string()
    }

    /// Puts the signature of a component, `comment` in it, beside its file.
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

/// Where the signature of a component is looked for.
pub fn signature_of(component: &Path) -> std::path::PathBuf {
    component.with_extension("wasm.minisig")
}
