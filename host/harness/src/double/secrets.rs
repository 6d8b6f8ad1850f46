//! Keys of a case, for a plugin that signs or seals. They are the host's own, with the bytes that the case gives; what
//! is sealed is the same in each run, because its random bytes are those of the case's seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepgate_runtime::capability::secrets;
use keepgate_secrets::{HmacKey, Material, SealKeys};
use serde::Deserialize;

use super::{Double, Setup};
use crate::case::{Content, Short};
use crate::kit::Harness;

/// What the keys for sealing are bound to; a plugin cannot tell.
const NAME: &str = "case";

/// The keys of a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Secrets {
    /// Keys to sign with, by name.
    hmac: BTreeMap<String, Short<Content>>,
    /// Keys to seal with, the one that seals first.
    seal: Vec<Short<Content>>,
}

impl Harness {
    /// Grants a key to sign with.
    #[must_use]
    pub fn hmac_key(mut self, name: &str, key: &[u8]) -> Self {
        let hmac = &mut self.world.doubles.secrets.hmac;
        hmac.insert(name.to_owned(), Short(Content::of(key)));
        self
    }

    /// Grants keys for sealing: the first one seals, all of them open.
    #[must_use]
    pub fn seal_keys(mut self, keys: &[&[u8]]) -> Self {
        self.world.doubles.secrets.seal = keys.iter().map(|key| Short(Content::of(key))).collect();
        self
    }
}

impl Double for Secrets {
    const KEY: &'static str = "secrets";

    fn is_empty(&self) -> bool {
        self.hmac.is_empty() && self.seal.is_empty()
    }

    fn extend(&mut self, over: Self) {
        self.hmac.extend(over.hmac);
        if !over.seal.is_empty() {
            self.seal = over.seal;
        }
    }

    fn install(&self, setup: &mut Setup<'_>) -> Result<(), String> {
        let material = |content: &Short<Content>| {
            content.0.bytes(setup.folder, setup.values).map(|bytes| Material::of(&bytes))
        };
        let hmac = self
            .hmac
            .iter()
            .map(|(name, content)| Ok((name.clone(), Arc::new(HmacKey::new(&material(content)?)))));
        let hmac = hmac.collect::<Result<_, String>>()?;
        let keys = self.seal.iter().map(material).collect::<Result<Vec<_>, _>>()?;
        let seal = match keys.is_empty() {
            true => None,
            false => {
                let keys = SealKeys::new(NAME, &keys);
                Some(Arc::new(keys.map_err(|error| format!("secrets.seal: {error}"))?))
            }
        };
        setup.spec.grants.insert(secrets::Secrets { hmac, seal });
        Ok(())
    }
}
