//! Removes secrets from recordings: credentials, cookies, tokens and everything with a similar name, in
//! headers, queries, and JSON or form bodies. Only the names of removed values are kept.
//!
//! It errs on the side of removing too much: a name only needs to contain one of the words below.
//! Secrets without a name, in a path or in a body of another format, cannot be recognised;
//! `docs/src/recording.md` says so.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use super::body::{Captured, Content};

/// Replaces a secret.
pub(super) const REMOVED: &str = "REMOVED";

/// Words that make a name secret if it contains one, after lower-casing it and removing punctuation.
const WORDS: [&str; 18] = [
    "auth",
    "bearer",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "nonce",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "private",
    "secret",
    "session",
    "signature",
    "ticket",
    "token",
    "xsrf",
];
/// The same at the end of a name.
const SUFFIXES: [&str; 3] = ["key", "keyid", "pass"];
/// The same for whole names.
const NAMES: [&str; 6] = ["code", "hmac", "pin", "pwd", "sid", "sig"];
/// A JSON object with one of these members holds a password-protected key: its strings are removed.
const WRAPPED_KEY_MEMBERS: [&str; 3] = ["kdf", "salt", "iv"];
/// Authentication schemes: header values that start with one are credentials.
const SCHEMES: [&str; 5] = ["basic ", "bearer ", "digest ", "negotiate ", "aws4-hmac-sha256 "];

/// A head without secrets.
#[derive(Debug, Default)]
pub(super) struct RedactedHead {
    pub(super) fields: BTreeMap<String, Vec<String>>,
    /// What was removed, such as `header cookie` or `query token`.
    pub(super) removed: Vec<String>,
}

impl RedactedHead {
    /// The headers, without those that concern only one connection.
    pub(super) fn of<'a>(
        headers: &HeaderMap,
        withheld: impl Iterator<Item = &'a HeaderName>,
    ) -> Self {
        let mut head = Self::default();
        let withheld: Vec<_> = withheld.collect();
        let hop_by_hop =
            [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE];
        for name in headers.keys().filter(|name| !hop_by_hop.contains(name)) {
            let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
            let secret = is_secret(name.as_str()) || withheld.contains(&name);
            let has_credentials_in = |value: &&str| has_credentials(value);
            let texts: Result<Vec<_>, _> = values.into_iter().collect();
            match texts {
                Ok(texts) if !secret && !texts.iter().any(has_credentials_in) => {
                    let texts = texts.into_iter().map(|text| head.url(name.as_str(), text));
                    let texts = texts.collect();
                    head.fields.insert(name.as_str().to_owned(), texts);
                }
                _ => head.removed.push(format!("header {name}")),
            }
        }
        head
    }

    /// The content type in lower case; empty if it is missing.
    pub(super) fn content_type(&self) -> String {
        let first = self.fields.get("content-type").and_then(|values| values.first());
        first.map(|kind| kind.to_ascii_lowercase()).unwrap_or_default()
    }

    /// Sets the host of a request that names it in the target.
    pub(super) fn host(&mut self, host: &str) {
        self.fields.insert(header::HOST.as_str().to_owned(), vec![host.to_owned()]);
    }

    /// A query or form without its secret values.
    pub(super) fn query(&mut self, query: &str) -> String {
        let (query, removed) = redact_query(query);
        self.removed.extend(removed.into_iter().map(|name| format!("query {name}")));
        query
    }

    /// A value that may be a URL with a query.
    fn url(&mut self, header: &str, value: &str) -> String {
        match value.split_once('?') {
            Some((before, query)) if query.contains('=') => {
                let (query, removed) = redact_query(query);
                let told = removed.into_iter().map(|name| format!("header {header}: query {name}"));
                self.removed.extend(told);
                format!("{before}?{query}")
            }
            _ => value.to_owned(),
        }
    }
}

/// Removes the secrets from a body and returns their names. `content_type` is in lower case.
pub(super) fn redact_body(body: &mut Captured, content_type: &str) -> Vec<String> {
    let form = content_type.starts_with("application/x-www-form-urlencoded");
    let json = content_type.contains("json");
    match &mut body.content {
        Content::Digest { .. } if form || json => {
            // The digest could reveal a short secret.
            body.content = Content::default();
            body.whole = false;
            vec!["as a whole: too large to search".to_owned()]
        }
        Content::Digest { .. } => Vec::new(),
        Content::Bytes(bytes) => {
            let mut removed = Vec::new();
            if form {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let (text, names) = redact_query(&text);
                if !names.is_empty() {
                    *bytes = text.into_bytes();
                }
                removed = names;
            } else if json || matches!(bytes.first(), Some(b'{' | b'[')) {
                match serde_json::from_slice::<Value>(bytes) {
                    Ok(mut value) => {
                        redact_json(&mut value, "", &mut removed);
                        if !removed.is_empty() {
                            *bytes = value.to_string().into_bytes();
                        }
                    }
                    // Incomplete, or several documents: it cannot be searched.
                    Err(_) if json => {
                        bytes.clear();
                        body.whole = false;
                        removed.push("as a whole: not valid JSON".to_owned());
                    }
                    Err(_) => {}
                }
            }
            body.whole &= removed.is_empty();
            removed
        }
    }
}

fn redact_json(value: &mut Value, at: &str, removed: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            for (index, value) in values.iter_mut().enumerate() {
                redact_json(value, &format!("{at}/{index}"), removed);
            }
        }
        Value::Object(members) => {
            let wrapped = WRAPPED_KEY_MEMBERS.iter().any(|name| members.contains_key(*name));
            for (name, value) in members {
                let at = format!("{at}/{name}");
                let scalar = matches!(value, Value::String(_) | Value::Number(_));
                if (scalar && is_secret(name)) || (wrapped && value.is_string()) {
                    *value = REMOVED.into();
                    removed.push(at);
                } else {
                    // An array of secrets is removed as a whole.
                    match value {
                        Value::Array(values) if is_secret(name) => {
                            values.clear();
                            removed.push(at);
                        }
                        value => redact_json(value, &at, removed),
                    }
                }
            }
        }
        _ => {}
    }
}

/// A query with its secret values replaced, and their names. Everything else is unchanged, byte for byte.
fn redact_query(query: &str) -> (String, Vec<String>) {
    let mut removed = Vec::new();
    let parts = query.split('&').map(|part| {
        let name = form_urlencoded::parse(part.as_bytes()).next().map(|(name, _)| name);
        match (part.split_once('='), name) {
            (Some((raw, _)), Some(name)) if is_secret(&name) => {
                removed.push(name.into_owned());
                format!("{raw}={REMOVED}")
            }
            _ => part.to_owned(),
        }
    });
    let query = parts.collect::<Vec<_>>().join("&");
    (query, removed)
}

/// True for the name of a secret.
fn is_secret(name: &str) -> bool {
    let name: String =
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    WORDS.iter().any(|word| name.contains(word))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || NAMES.contains(&name.as_str())
}

/// True for a header value with credentials, whatever the header's name.
fn has_credentials(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let user_info = lower.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))
    });
    user_info || SCHEMES.iter().any(|scheme| lower.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_names_of_secrets_in_all_spellings() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "Set-Cookie",
            "X-Auth-Token",
            "access_token",
            "X-Amz-Security-Token",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "api-key",
            "apiKey",
            "AWSAccessKeyId",
            "client_secret",
            "PASSWORD",
            "new.password",
            "passwd",
            "sid",
            "PHPSESSID_session",
            "X-CSRFToken",
            "WWW-Authenticate",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "host",
            "range",
            "content-type",
            "etag",
            "if-match",
            "user-agent",
            "create",
            "keys",
            "name",
            "accept",
            "x-forwarded-for",
            "monkeys",
            "store",
            "content-length",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn credentials_are_removed_from_heads() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Basic YTpiZWFn"),
            ("x-elsewhere", "Bearer geheim"),
            ("x-forwarded-user", "alice"),
            ("cookie", "a=geheim"),
            ("referer", "https://host/x?token=geheim&page=2"),
            ("origin", "https://alice:geheim@host/"),
            ("accept", "text/plain"),
            ("connection", "close"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append("accept", "*/*".parse().unwrap());
        let proxy = HeaderName::from_static("x-forwarded-user");
        let mut heads = RedactedHead::of(&headers, std::iter::once(&proxy));
        assert_eq!(heads.query("a=%20&to%6ben=geheim&b"), "a=%20&to%6ben=REMOVED&b");
        let kept: Vec<_> =
            heads.fields.iter().map(|(name, values)| (name.as_str(), values)).collect();
        let referer = vec!["https://host/x?token=REMOVED&page=2".to_owned()];
        let accept = vec!["text/plain".to_owned(), "*/*".to_owned()];
        assert_eq!(kept, [("accept", &accept), ("referer", &referer)]);
        heads.removed.sort();
        assert_eq!(
            heads.removed,
            [
                "header authorization",
                "header cookie",
                "header origin",
                "header referer: query token",
                "header x-elsewhere",
                "header x-forwarded-user",
                "query token",
            ]
        );
    }

    fn redacted(kind: &str, bytes: &str) -> (String, Vec<String>, bool) {
        let content = Content::Bytes(bytes.as_bytes().to_vec());
        let mut body = Captured { content, whole: true };
        let removed = redact_body(&mut body, kind);
        let Content::Bytes(bytes) = body.content else { panic!("{:?}", body.content) };
        (String::from_utf8(bytes).unwrap(), removed, body.whole)
    }

    #[test]
    fn secrets_are_removed_from_bodies() {
        let text = r#"{"name":"a","login":{"password":"geheim","pin":12345},"tokens":["geheim"]}"#;
        let (kept, removed, whole) = redacted("application/json", text);
        assert!(
            !kept.contains("geheim") && !kept.contains("12345") && kept.contains("\"a\""),
            "{kept}"
        );
        assert_eq!(removed, ["/login/password", "/login/pin", "/tokens"]);
        assert!(!whole);
        // A password-protected key like restic's, in a body of unknown type.
        let text = r#"{"kdf":"scrypt","N":32768,"salt":"geheim","data":"geheim"}"#;
        let (kept, ..) = redacted("application/octet-stream", text);
        assert!(!kept.contains("geheim") && kept.contains("32768"), "{kept}");
        let (kept, ..) =
            redacted("application/x-www-form-urlencoded; charset=utf-8", "u=a&password=b");
        assert_eq!(kept, "u=a&password=REMOVED");
        // Bodies that cannot be searched are not kept.
        assert_eq!(redacted("application/json", "{\"password\":\"gehe").0, "");
        let digest = Content::Digest { sha256: "x".to_owned(), length: 1 };
        let mut body = Captured { content: digest, whole: true };
        assert_eq!(redact_body(&mut body, "application/json").len(), 1);
        assert_eq!(body.content, Content::default());
        // Bodies without secrets stay unchanged, including white space.
        let plain = "{ \"name\" : 1 }";
        assert_eq!(redacted("application/json", plain), (plain.to_owned(), Vec::new(), true));
    }
}
