//! What a recording leaves out: credentials, cookies, tokens, and whatever has a name like one, in
//! headers, queries, and bodies that are JSON or forms. Only the names of what was left out are kept.
//!
//! Rather too much than too little: a name need only contain a word of these. What has no name (a
//! secret that is a part of a path, or of a body in another format) cannot be told from other
//! bytes; `docs/src/recording.md` says so.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

use super::capture::{Captured, Content, Taken};

/// Stands where a secret was.
pub(super) const REMOVED: &str = "REMOVED";

/// Anywhere in a name, once it is in lower case and without `-`, `_`, `.` and the like.
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
/// At a name's end, ...
const ENDS: [&str; 3] = ["key", "keyid", "pass"];
/// ... or all of it.
const NAMES: [&str; 6] = ["code", "hmac", "pin", "pwd", "sid", "sig"];
/// A JSON object with one of these holds a key that is wrapped in a password: its texts are left out.
const OF_WRAPPED_KEYS: [&str; 3] = ["kdf", "salt", "iv"];
/// What a header's value begins with that says who somebody is.
const SCHEMES: [&str; 5] = ["basic ", "bearer ", "digest ", "negotiate ", "aws4-hmac-sha256 "];

/// A head without its secrets.
#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) fields: BTreeMap<String, Vec<String>>,
    /// What was left out, in words: `header cookie`, `query token`.
    pub(super) removed: Vec<String>,
}

impl Heads {
    /// A head's fields. Those that are about one connection are no part of an exchange.
    pub(super) fn of<'a>(
        headers: &HeaderMap,
        withheld: impl Iterator<Item = &'a HeaderName>,
    ) -> Self {
        let mut heads = Self::default();
        let withheld: Vec<_> = withheld.collect();
        let passing = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE];
        for name in headers.keys().filter(|name| !passing.contains(name)) {
            let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
            let secret = is_secret(name.as_str()) || withheld.contains(&name);
            let says_who = |value: &&str| tells_who(value);
            let texts: Result<Vec<_>, _> = values.into_iter().collect();
            match texts {
                Ok(texts) if !secret && !texts.iter().any(says_who) => {
                    let texts = texts.into_iter().map(|text| heads.url(name.as_str(), text));
                    let texts = texts.collect();
                    heads.fields.insert(name.as_str().to_owned(), texts);
                }
                _ => heads.removed.push(format!("header {name}")),
            }
        }
        heads
    }

    /// The host, where the request says it elsewhere than in a header.
    pub(super) fn host(&mut self, host: &str) {
        self.fields.insert(header::HOST.as_str().to_owned(), vec![host.to_owned()]);
    }

    /// A query, or a form, without the values that are secret.
    pub(super) fn query(&mut self, query: &str) -> String {
        let (query, removed) = clean_query(query);
        self.removed.extend(removed.into_iter().map(|name| format!("query {name}")));
        query
    }

    /// A value that may be an address with a query.
    fn url(&mut self, header: &str, value: &str) -> String {
        match value.split_once('?') {
            Some((before, query)) if query.contains('=') => {
                let (query, removed) = clean_query(query);
                let told = removed.into_iter().map(|name| format!("header {header}: query {name}"));
                self.removed.extend(told);
                format!("{before}?{query}")
            }
            _ => value.to_owned(),
        }
    }
}

/// Leaves the secrets of its bodies out of an exchange.
pub(super) fn clean(taken: &mut Taken) {
    let kind = |heads: &Heads| {
        let kind = heads.fields.get("content-type").and_then(|values| values.first().cloned());
        kind.unwrap_or_default().to_ascii_lowercase()
    };
    let kinds = (kind(&taken.request), kind(&taken.reply));
    for (body, kind, removed, whose) in [
        (&mut taken.request_body, kinds.0, &mut taken.request.removed, "request"),
        (&mut taken.reply_body, kinds.1, &mut taken.reply.removed, "reply"),
    ] {
        for name in clean_body(body, &kind) {
            removed.push(format!("{whose} body {name}"));
        }
    }
}

/// The names of what was removed.
fn clean_body(body: &mut Captured, kind: &str) -> Vec<String> {
    let form = kind.starts_with("application/x-www-form-urlencoded");
    let json = kind.contains("json");
    match &mut body.content {
        Content::Digest { .. } if form || json => {
            // The digest of a short secret in a known frame gives it away.
            body.content = Content::default();
            body.whole = false;
            vec!["as a whole: too large to be searched".to_owned()]
        }
        Content::Digest { .. } => Vec::new(),
        Content::Bytes(bytes) => {
            let mut removed = Vec::new();
            if form {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let (text, names) = clean_query(&text);
                if !names.is_empty() {
                    *bytes = text.into_bytes();
                }
                removed = names;
            } else if json || matches!(bytes.first(), Some(b'{' | b'[')) {
                match serde_json::from_slice::<Value>(bytes) {
                    Ok(mut value) => {
                        clean_json(&mut value, "", &mut removed);
                        if !removed.is_empty() {
                            *bytes = value.to_string().into_bytes();
                        }
                    }
                    // Half of one, or several: what is in it cannot be told.
                    Err(_) if json => {
                        bytes.clear();
                        body.whole = false;
                        removed.push("as a whole: not to be searched".to_owned());
                    }
                    Err(_) => {}
                }
            }
            body.whole &= removed.is_empty();
            removed
        }
    }
}

fn clean_json(value: &mut Value, at: &str, removed: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            for (index, value) in values.iter_mut().enumerate() {
                clean_json(value, &format!("{at}/{index}"), removed);
            }
        }
        Value::Object(members) => {
            let wrapped = OF_WRAPPED_KEYS.iter().any(|name| members.contains_key(*name));
            for (name, value) in members {
                let at = format!("{at}/{name}");
                let scalar = matches!(value, Value::String(_) | Value::Number(_));
                if (scalar && is_secret(name)) || (wrapped && value.is_string()) {
                    *value = REMOVED.into();
                    removed.push(at);
                } else {
                    // A list of secrets is named as one.
                    match value {
                        Value::Array(values) if is_secret(name) => {
                            values.clear();
                            removed.push(at);
                        }
                        value => clean_json(value, &at, removed),
                    }
                }
            }
        }
        _ => {}
    }
}

/// A query with its secret values replaced, and their names; else byte for byte as it was.
fn clean_query(query: &str) -> (String, Vec<String>) {
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

/// Whether what has this name is nobody else's business.
fn is_secret(name: &str) -> bool {
    let name: String =
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    WORDS.iter().any(|word| name.contains(word))
        || ENDS.iter().any(|end| name.ends_with(end))
        || NAMES.contains(&name.as_str())
}

/// Whether a header's value holds credentials, whatever the header is called.
fn tells_who(value: &str) -> bool {
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
    fn names_of_secrets_are_known_in_all_spellings() {
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
            "cluster",
            "content-length",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn heads_lose_what_says_who_somebody_is() {
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
        let mut heads = Heads::of(&headers, std::iter::once(&proxy));
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

    fn cleaned(kind: &str, bytes: &str) -> (String, Vec<String>, bool) {
        let content = Content::Bytes(bytes.as_bytes().to_vec());
        let mut body = Captured { content, whole: true };
        let removed = clean_body(&mut body, kind);
        let Content::Bytes(bytes) = body.content else { panic!("{:?}", body.content) };
        (String::from_utf8(bytes).unwrap(), removed, body.whole)
    }

    #[test]
    fn bodies_lose_what_has_the_name_of_a_secret() {
        let text = r#"{"name":"a","login":{"password":"geheim","pin":12345},"tokens":["geheim"]}"#;
        let (kept, removed, whole) = cleaned("application/json", text);
        assert!(
            !kept.contains("geheim") && !kept.contains("12345") && kept.contains("\"a\""),
            "{kept}"
        );
        assert_eq!(removed, ["/login/password", "/login/pin", "/tokens"]);
        assert!(!whole);
        // A key wrapped in a password, as restic has them, in a body of no known kind.
        let text = r#"{"kdf":"scrypt","N":32768,"salt":"geheim","data":"geheim"}"#;
        let (kept, ..) = cleaned("application/octet-stream", text);
        assert!(!kept.contains("geheim") && kept.contains("32768"), "{kept}");
        let (kept, ..) =
            cleaned("application/x-www-form-urlencoded; charset=utf-8", "u=a&password=b");
        assert_eq!(kept, "u=a&password=REMOVED");
        // What cannot be searched is not kept.
        assert_eq!(cleaned("application/json", "{\"password\":\"gehe").0, "");
        let digest = Content::Digest { sha256: "x".to_owned(), length: 1 };
        let mut body = Captured { content: digest, whole: true };
        assert_eq!(clean_body(&mut body, "application/json").len(), 1);
        assert_eq!(body.content, Content::default());
        // What has no secret stays as it is, blanks and all.
        let plain = "{ \"name\" : 1 }";
        assert_eq!(cleaned("application/json", plain), (plain.to_owned(), Vec::new(), true));
    }
}
