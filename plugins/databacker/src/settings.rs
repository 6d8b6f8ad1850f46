//! The mount's settings. If you add a key here, add it to the README.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::{HumanDuration, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;

use crate::elsewhere;

/// All of an instance's are removed in one commit, with the instance and its keys.
const MOST_REVISIONS: u64 = 100;
const DAY: Duration = Duration::from_secs(86_400);

/// The mount's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The URL of the mount. Tokens and assertions name it as their audience, so without it there are none.
    pub(crate) url: Option<String>,
    /// Fingerprints of the server's certificates, as instances are to pin them: `sha256:` and 64 lower-case hex digits.
    pub(crate) certificates: Vec<String>,
    /// Who may administer the mount, besides users whose tokens have a scope for it.
    pub(crate) administrators: Vec<Administrator>,
    /// Whether instances may get access tokens.
    token_endpoint: Option<bool>,
    /// Where paths are served that are not served here: a pattern, and the URL that takes the place of the mount's, or
    /// `gone`. A pattern is a path below the mount in which `*` stands for one segment, and at its end for the rest of the
    /// path. They come before all that is served here; if several match, the one that names the most segments counts.
    pub(crate) elsewhere: BTreeMap<String, String>,
    /// The most instances of an account.
    max_instances: Option<u64>,
    /// How long what was received and done is kept.
    pub(crate) keep: Keep,
    /// After which silence an instance with a schedule is reported.
    pub(crate) silent_after: Option<HumanDuration>,
    /// How late a run may begin before it is reported as missed.
    late_after: Option<HumanDuration>,
    /// The upstream through which webhooks are delivered.
    pub(crate) webhooks: Option<String>,
}

/// Who may administer the mount, under the name by which the gateway knows them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { name = \"ann\" }")]
pub(crate) struct Administrator {
    pub(crate) name: String,
    /// The account to whose instances it is restricted.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// Whether it may only look.
    #[serde(default)]
    pub(crate) read_only: bool,
}

/// How long what was received and done is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keep {
    spans: Option<HumanDuration>,
    runs: Option<HumanDuration>,
    logs: Option<HumanDuration>,
    audit: Option<HumanDuration>,
    /// The most bytes of log lines of an instance.
    log_bytes: Option<u64>,
    /// The most revisions of an instance's configuration, at most 100.
    revisions: Option<u64>,
}

impl Settings {
    /// Says what is wrong, and what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(str::is_empty) || url.ends_with('/') || url.contains(['?', '#']) {
                return Err(format!(
                    "url: {url:?} is not the URL of the mount; write it like \"https://backup.example.com/databacker\", \
                     without a slash at its end"
                ));
            }
        }
        for certificate in &self.certificates {
            if !is_fingerprint(certificate) {
                return Err(format!(
                    "certificates: {certificate:?} is no fingerprint; write \"sha256:\" and 64 lower-case hexadecimal digits"
                ));
            }
        }
        if self.administrators.iter().any(|one| one.name.is_empty()) {
            return Err("administrators: a name is empty".to_owned());
        }
        for (pattern, base) in &self.elsewhere {
            if !elsewhere::is_pattern(pattern) {
                return Err(format!(
                    "elsewhere: {pattern:?} is no pattern; write a path like \"/engines/restore/*\", in which * is a whole \
                     segment"
                ));
            }
            let rest = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
            let is_url = rest.is_some_and(|rest| !rest.is_empty()) && base.bytes().all(is_plain);
            if base != elsewhere::GONE && (!is_url || base.ends_with('/')) {
                return Err(format!(
                    "elsewhere: {pattern:?} = {base:?}: write a URL without a slash at its end, or \"gone\""
                ));
            }
            if self.url.as_ref() == Some(base) {
                return Err(format!("elsewhere: {pattern:?} = {base:?} leads to this mount again"));
            }
        }
        if !(1..=MOST_REVISIONS).contains(&self.revisions()) {
            return Err(format!(
                "keep.revisions: at least 1, which is the current one, and at most {MOST_REVISIONS}"
            ));
        }
        Ok(())
    }

    /// The URL of a path below the mount: as the operator has set it, or else as the client sees it.
    pub(crate) fn url(&self, request: &Request, segments: &[&str]) -> String {
        match &self.url {
            Some(url) => {
                let encoded = segments.iter().map(|segment| encoded(segment).to_string());
                format!("{url}/{}", encoded.collect::<Vec<_>>().join("/"))
            }
            None => request.url(segments),
        }
    }

    /// The URL of the mount for tokens, if instances may get them.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.url.as_deref().filter(|_| self.token_endpoint.unwrap_or(true))
    }

    pub(crate) fn max_instances(&self) -> u64 {
        self.max_instances.unwrap_or(10_000)
    }

    pub(crate) fn late_after(&self) -> Duration {
        self.late_after.map_or(Duration::from_secs(3600), |HumanDuration(late)| late)
    }

    pub(crate) fn revisions(&self) -> u64 {
        self.keep.revisions.unwrap_or(50)
    }
}

impl Keep {
    pub(crate) fn spans(&self) -> Duration {
        days(self.spans, 90)
    }

    pub(crate) fn runs(&self) -> Duration {
        days(self.runs, 400)
    }

    pub(crate) fn logs(&self) -> Duration {
        days(self.logs, 90)
    }

    pub(crate) fn audit(&self) -> Duration {
        days(self.audit, 400)
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.unwrap_or(64 << 20)
    }
}

/// A text as a part of a URL: a segment of its path, or a value in its query (RFC 3986).
pub(crate) fn encoded(text: &str) -> PercentEncode<'_> {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, PLAIN)
}

fn days(set: Option<HumanDuration>, days: u32) -> Duration {
    set.map_or(DAY * days, |HumanDuration(set)| set)
}

/// Whether this is the fingerprint of a certificate as the clients compare it.
pub(crate) fn is_fingerprint(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(digit))
}

#[cfg(test)]
mod tests {
    use keepgate_sdk::testing::check_settings;
    use serde_json::json;

    use crate::Databacker;

    #[test]
    fn what_is_wrong_with_settings_is_said() {
        for (settings, said) in [
            (json!({"url": "backup.example.com"}), "url: \"backup.example.com\" is not"),
            (json!({"url": "https://h/x/"}), "without a slash at its end"),
            (json!({"certificates": ["AB:CD"]}), "certificates: \"AB:CD\" is no fingerprint"),
            (json!({"administrators": [{"name": ""}]}), "administrators: a name is empty"),
            (json!({"administrators": ["ann"]}), "expected a table like { name = \"ann\" }"),
            (json!({"administrators": [{"name": "a", "role": "x"}]}), "administrators[0].role"),
            (json!({"elsewhere": {"x": "https://h"}}), "elsewhere: \"x\""),
            (json!({"elsewhere": {"/x": "ftp://h"}}), "elsewhere: \"/x\""),
            (json!({"elsewhere": {"/x*": "https://h"}}), "elsewhere: \"/x*\" is no pattern"),
            (json!({"elsewhere": {"/x/": "https://h"}}), "elsewhere: \"/x/\" is no pattern"),
            (json!({"elsewhere": {"/x": "https://"}}), "elsewhere: \"/x\" = \"https://\""),
            (json!({"elsewhere": {"/x": "https://h/?a"}}), "elsewhere: \"/x\""),
            (json!({"url": "https://h", "elsewhere": {"/x": "https://h"}}), "this mount again"),
            (json!({"keep": {"revisions": 0}}), "keep.revisions: at least 1"),
            (json!({"keep": {"revisions": 101}}), "and at most 100"),
            (json!({"keep": {"spans": "soon"}}), "keep.spans"),
        ] {
            let error = check_settings::<Databacker>(&settings).unwrap_err();
            assert!(error.contains(said), "{settings}: {error}");
        }
        let whole = json!({
            "url": "https://h/x",
            "certificates": [format!("sha256:{}", "0a".repeat(32))],
            "administrators": [{"name": "ann"}, {"name": "bob", "account": "acme", "read_only": true}],
            "token_endpoint": false,
            "elsewhere": {"/engines/restore/*": "https://other", "/old": "gone"},
            "keep": {"spans": "30d", "runs": "1y", "log_bytes": 1, "revisions": 1},
            "silent_after": "2d",
            "late_after": "1h",
            "webhooks": "hooks",
            "max_instances": 5,
        });
        assert_eq!(check_settings::<Databacker>(&whole), Ok(()));
    }
}
