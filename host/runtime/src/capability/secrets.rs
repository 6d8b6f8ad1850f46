//! `secrets`: signing and sealing with keys that a mount grants. The cryptography is in `keepgate_secrets`; the keys stay
//! there, and the guest gets results only.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepgate_secrets::{HmacKey, MAX_CONTEXT, MAX_MESSAGE, RANDOM_LENGTH, SealKeys, seal};
use wasmtime::component::{HasSelf, Linker};

use super::definition::{Capability, Granted, list};
use super::grants::{Grant, Grants};
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use keepgate_core::Failure;

use bindings::keepgate::plugin::secrets;

crate::contract::bindings! {
    interface: "secrets",
    // None of them waits, so they need no fiber switch.
    imports: { default: trappable },
    with: { "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types },
}

/// The keys that a mount grants.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Keys to sign with, by the names under which the plugin asks for them.
    pub hmac: BTreeMap<String, Arc<HmacKey>>,
    /// Keys to seal with.
    pub seal: Option<Arc<SealKeys>>,
}

impl Grant for Secrets {}

/// The key of a mount.
const KEY: &str = "secrets";

/// See the module.
pub(crate) struct SecretsCapability;

impl Capability for SecretsCapability {
    fn interface(&self) -> &'static str {
        "secrets"
    }

    fn purpose(&self) -> &'static str {
        "keys of the operator"
    }

    fn since(&self) -> u32 {
        1
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("secrets.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        secrets::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn granted(&self, grants: &Grants) -> Option<Granted> {
        let Secrets { hmac, seal } = grants.get::<Secrets>()?;
        let hmac = hmac.keys().map(|name| format!("hmac {name}"));
        let seal = seal.iter().map(|keys| format!("seal {}", keys.name()));
        let names: Vec<String> = hmac.chain(seal).collect();
        (!names.is_empty()).then_some(Granted { key: KEY, label: "secrets", names })
    }

    fn check_imports(&self, functions: &[String], grants: &Grants) -> Result<(), String> {
        let granted = grants.get::<Secrets>();
        let imports = |name: &str| functions.iter().any(|function| function.contains(name));
        if imports("hmac") && granted.is_none_or(|granted| granted.hmac.is_empty()) {
            return Err(format!(
                "the plugin can sign with a key, and the mount grants none; if it needs one, add \
                 `{KEY}.hmac = {{ NAME = \"FILE\" }}` to the mount, with the name that the plugin asks for"
            ));
        }
        let seals = imports("seal") || imports("open");
        if seals && granted.is_none_or(|granted| granted.seal.is_none()) {
            return Err(format!(
                "the plugin can seal what it stores, and the mount grants no key for it; if it needs one, add \
                 `{KEY}.seal = {{ name = \"NAME\", keys = [\"FILE\"] }}` to the mount"
            ));
        }
        Ok(())
    }

    fn lacks_grant(&self, _function: &str, failure: &str) -> bool {
        failure == "denied"
    }
}

impl GuestState {
    fn hmac_key(&self, name: &str) -> Result<Arc<HmacKey>, ImportError> {
        let granted = self.mount.grants.get::<Secrets>().map(|secrets| &secrets.hmac);
        let key = granted.and_then(|keys| keys.get(name)).cloned();
        key.ok_or_else(|| {
            let granted = list(granted.into_iter().flat_map(BTreeMap::keys));
            let mount = &self.mount.path;
            let why = format!("the mount {mount} grants no key {name:?}; granted: {granted}");
            Failure::Denied(why).into()
        })
    }

    fn seal_keys(&self) -> Result<Arc<SealKeys>, ImportError> {
        let keys = self.mount.grants.get::<Secrets>().and_then(|secrets| secrets.seal.clone());
        keys.ok_or_else(|| {
            let why = format!("the mount {} grants no key for sealing", self.mount.path);
            Failure::Denied(why).into()
        })
    }

    /// Bytes that nobody can predict, or those of the test hooks.
    fn random(&self) -> Result<[u8; RANDOM_LENGTH], ImportError> {
        let mut random = [0; RANDOM_LENGTH];
        match &self.mount.hooks {
            Some(hooks) => hooks.random(&mut random),
            None => getrandom::fill(&mut random)
                .map_err(|error| ImportError::Trap(wasmtime::Error::msg(error.to_string())))?,
        }
        Ok(random)
    }
}

/// Fails if there are more bytes than that.
fn at_most(limit: usize, bytes: &[u8]) -> Result<(), ImportError> {
    match bytes.len() > limit {
        true => Err(Failure::TooLarge(limit as u64).into()),
        false => Ok(()),
    }
}

impl secrets::Host for GuestState {
    fn keys(&mut self) -> wasmtime::Result<Vec<String>> {
        self.note("secrets.keys", |_| String::new());
        let granted = self.mount.grants.get::<Secrets>();
        Ok(granted.map(|secrets| secrets.hmac.keys().cloned().collect()).unwrap_or_default())
    }

    fn hmac_sha256(&mut self, key: String, message: Vec<u8>) -> Result<Vec<u8>, ImportError> {
        self.note("secrets.hmac-sha256", |_| key.clone());
        let key = self.hmac_key(&key)?;
        at_most(MAX_MESSAGE, &message)?;
        Ok(key.sign(&message))
    }

    fn verify_hmac_sha256(
        &mut self,
        key: String,
        message: Vec<u8>,
        mac: Vec<u8>,
    ) -> Result<bool, ImportError> {
        self.note("secrets.verify-hmac-sha256", |_| key.clone());
        let key = self.hmac_key(&key)?;
        at_most(MAX_MESSAGE, &message)?;
        Ok(key.verify(&message, &mac))
    }

    fn seal(&mut self, plaintext: Vec<u8>, context: Vec<u8>) -> Result<Vec<u8>, ImportError> {
        self.note("secrets.seal", |_| format!("{} bytes", plaintext.len()));
        let keys = self.seal_keys()?;
        at_most(MAX_MESSAGE, &plaintext)?;
        at_most(MAX_CONTEXT, &context)?;
        let sealed = keys.seal(&plaintext, &context, self.random()?);
        sealed.ok_or_else(|| Failure::Internal("cannot seal".to_owned()).into())
    }

    fn open(&mut self, sealed: Vec<u8>, context: Vec<u8>) -> Result<Vec<u8>, ImportError> {
        self.note("secrets.open", |_| format!("{} bytes", sealed.len()));
        let keys = self.seal_keys()?;
        at_most(MAX_CONTEXT, &context)?;
        // Longer than anything that was sealed, so not worth looking at.
        let plausible = sealed.len() <= MAX_MESSAGE + seal::OVERHEAD;
        let opened = plausible.then(|| keys.open(&sealed, &context).ok()).flatten();
        opened.ok_or_else(|| Failure::Invalid(keepgate_secrets::NotSealed.to_string()).into())
    }
}
