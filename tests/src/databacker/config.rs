//! How the client reads configurations: a local file, and what that file says is elsewhere. What is fetched is parsed
//! whatever the status of the answer. Encrypted ones are decrypted in the steps that the protocol describes.

mod decrypt;

use serde_json::Value;

pub use decrypt::{decrypt, shared_key};

use super::seed::Seed;
use super::wire::{Identity, Url, get};

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What is in `spec`.
    pub kind: Kind,
    /// The rest.
    pub spec: Value,
}

/// The kinds of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All that the client needs.
    Local,
    /// Where the configuration is.
    Remote,
    /// Another configuration, which only the instance can read.
    Encrypted,
}

impl Document {
    /// Parses YAML, of which JSON is a part. The version is not looked at.
    ///
    /// # Errors
    ///
    /// With the messages of the real client where it has any.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if text.trim().is_empty() {
            return Err("EOF".to_owned());
        }
        let whole: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        let kind = match whole["kind"].as_str().unwrap_or_default() {
            "local" => Kind::Local,
            "remote" => Kind::Remote,
            "encrypted" => Kind::Encrypted,
            other => return Err(format!("unknown config type: {other}")),
        };
        Ok(Self { kind, spec: whole["spec"].clone() })
    }
}

/// Where a server is, and who the client is there: of a remote configuration, and of telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// A URL, which is asked for as it is.
    pub url: String,
    /// Fingerprints of the server's certificates.
    pub certificates: Vec<String>,
    /// A seed in base64.
    pub credentials: String,
}

impl Remote {
    /// Reads it. All three members must be there, and the certificates must be a list.
    ///
    /// # Errors
    ///
    /// The message of the real client.
    pub fn of(spec: &Value) -> Result<Self, String> {
        let invalid = || "parsed yaml had kind remote, but spec invalid".to_owned();
        let text = |name: &str| spec[name].as_str().map(str::to_owned).ok_or_else(invalid);
        let certificates = spec["certificates"].as_array().ok_or_else(invalid)?;
        let certificates = certificates.iter().map(|one| one.as_str().map(str::to_owned));
        Ok(Self {
            url: text("url")?,
            certificates: certificates.collect::<Option<_>>().ok_or_else(invalid)?,
            credentials: text("credentials")?,
        })
    }

    /// Who the client is there.
    ///
    /// # Errors
    ///
    /// If the credentials are not a seed.
    pub fn seed(&self) -> Result<Seed, String> {
        use base64::Engine as _;
        let bytes = base64::prelude::BASE64_STANDARD.decode(&self.credentials);
        let bytes = bytes.map_err(|error| format!("error decoding credentials: {error}"))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| "credentials have not 32 bytes")?;
        Ok(Seed::new(bytes))
    }

    /// The URL.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn url(&self) -> Result<Url, String> {
        Url::parse(&self.url)
    }

    /// Fetches the configuration.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached or is not trusted, or what it sends is no configuration.
    pub fn fetch(&self) -> Result<Document, String> {
        let identity = Identity::new(&self.seed()?, &self.certificates);
        let reply = get(&self.url()?, &identity).map_err(|error| error.to_string())?;
        Document::parse(&reply.body)
    }

    /// Fetches the configuration as the client ought to: decrypts it, and goes on where it says.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_whole(&self) -> Result<Value, String> {
        let mut found = self.fetch()?;
        for _ in 0..10 {
            match found.kind {
                Kind::Local => return Ok(found.spec),
                Kind::Remote => found = Self::of(&found.spec)?.fetch()?,
                Kind::Encrypted => {
                    let plaintext = decrypt(&found.spec, &self.seed()?)?;
                    found = Document::parse(&plaintext)?;
                }
            }
        }
        Err("configurations that lead from one to another".to_owned())
    }
}

/// Reads a file as the releases up to 1.5 do it: after something was fetched, they decode the spec of the file again
/// instead of what was fetched.
///
/// # Errors
///
/// With the messages of the real client where it has any.
pub fn load(file: &[u8]) -> Result<Value, String> {
    let first = Document::parse(file)?;
    if first.kind == Kind::Local {
        return Ok(first.spec);
    }
    let remote = Remote::of(&first.spec)?;
    // The real one goes on for ever if it is sent from one remote configuration to another.
    for _ in 0..10 {
        match remote.fetch()?.kind {
            // None of the members of a remote configuration is one of a local configuration.
            Kind::Local => return Ok(serde_json::json!({})),
            Kind::Encrypted => return Err("error decrypting config: empty algorithm".to_owned()),
            Kind::Remote => {}
        }
    }
    Err("fetches the same configuration again and again".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations_are_read_as_the_real_client_reads_them() {
        for (text, expected) in [
            ("", Err("EOF")),
            ("{\"message\":\"there is no such instance\"}", Err("unknown config type: ")),
            ("kind: other\nspec: {}", Err("unknown config type: other")),
            ("kind: local\nspec: {logging: info}", Ok(json!({"logging": "info"}))),
            ("{\"kind\":\"local\",\"spec\":{\"a\":\"\u{1f980}\"}}", Ok(json!({"a": "\u{1f980}"}))),
        ] {
            let parsed = Document::parse(text.as_bytes()).map(|found| found.spec);
            assert_eq!(parsed, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn remote_configurations_need_all_three_members() {
        let whole =
            json!({"url": "https://h/x", "certificates": ["sha256:00"], "credentials": "AA=="});
        assert_eq!(Remote::of(&whole).unwrap().url, "https://h/x");
        for name in ["url", "certificates", "credentials"] {
            let mut spec = whole.clone();
            spec.as_object_mut().unwrap().remove(name);
            assert!(Remote::of(&spec).unwrap_err().contains("spec invalid"));
        }
        let mut scalar = whole.clone();
        scalar["certificates"] = json!("sha256:00");
        assert!(Remote::of(&scalar).unwrap_err().contains("spec invalid"));
    }
}
