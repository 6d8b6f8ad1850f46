//! Sidecars: small JSON documents beside blobs with what is known about them. The blob is what counts; a
//! sidecar that was replaced by something else counts as missing.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Body, Failure, Part, PutOptions, Store, Stored};

/// The longest sidecar that is read, in bytes.
pub const MAX_SIZE: u64 = 64 * 1024;

/// A sidecar that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar<T> {
    /// The members that the plugin understands.
    pub value: T,
    /// The whole sidecar as it is stored, for passing it on to clients.
    pub json: Vec<u8>,
}

/// Reads a sidecar. Returns `None` if it does not exist, is longer than [`MAX_SIZE`], or does not parse as a
/// `T`. Fails only if the store does.
///
/// ```
/// use keepgate_sdk::{Failure, Store, sidecar};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Facts {
///     sha256: String,
/// }
///
/// fn sha256(store: &Store, name: &str) -> Result<Option<String>, Failure> {
///     let known = sidecar::read::<Facts>(store, &format!("index/{name}.json"))?;
///     Ok(known.map(|known| known.value.sha256))
/// }
/// ```
pub fn read<T: DeserializeOwned>(store: &Store, key: &str) -> Result<Option<Sidecar<T>>, Failure> {
    let body = match store.get(key, Part::Whole) {
        Err(Failure::NotFound) => return Ok(None),
        found => found?.data,
    };
    let json = match body.bytes(MAX_SIZE) {
        Err(Failure::TooLarge(_)) => return Ok(None),
        json => json?,
    };
    Ok(serde_json::from_slice(&json).ok().map(|value| Sidecar { value, json }))
}

/// Writes a sidecar, indented for people. Durable when it returns. Fails with [`Failure::AlreadyExists`] if
/// there is one already.
pub fn write(store: &Store, key: &str, value: &impl Serialize) -> Result<Stored, Failure> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|error| Failure::Internal(format!("{key} as JSON: {error}")))?;
    store.put(key, Body::from_bytes(&json), &PutOptions::absent())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Host;

    #[test]
    fn what_was_written_is_read() {
        let _host = Host::new();
        let store = Store::open("main").unwrap();
        assert_eq!(read::<Value>(&store, "index/a.json"), Ok(None));
        write(&store, "index/a.json", &json!({"size": 7})).unwrap();
        let known = read::<Value>(&store, "index/a.json").unwrap().unwrap();
        assert_eq!(known.value, json!({"size": 7}));
        assert_eq!(known.json, b"{\n  \"size\": 7\n}");
        let again = write(&store, "index/a.json", &json!({}));
        assert_eq!(again.unwrap_err(), Failure::AlreadyExists);
    }

    #[test]
    fn something_else_in_its_place_is_no_sidecar() {
        let host = Host::new();
        let store = Store::open("main").unwrap();
        for bytes in [b"{".to_vec(), b"[]".to_vec(), b"\xff".to_vec(), vec![b' '; 70_000]] {
            host.put("a.json", &bytes);
            let known = read::<std::collections::BTreeMap<String, u8>>(&store, "a.json");
            assert_eq!(known, Ok(None), "{} bytes", bytes.len());
        }
    }
}
