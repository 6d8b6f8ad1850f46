//! Errors in words that tell a person what to do. What matters is deep inside what libraries return, partly only as
//! text, so the texts of the whole chain are searched; what is not known here is shown as it is. The tests with real
//! sockets check these phrases against the libraries' texts.
//!
//! Clients may see the short form: it has no file, no host and no advice to the operator. The log has the full one.

use std::error::Error as StdError;
use std::io;

use keepgate_certificates::Fingerprint;

use crate::dial::DialError;
use crate::options::TlsFiles;
use crate::url::Host;

/// How many characters of another program's text are shown.
const SHOWN: usize = 300;

/// What libraries say if a connection ends without an explanation.
const DROPPED: [&str; 6] = [
    "broken pipe",
    "onnection reset",
    "connection closed",
    "unexpected end of file",
    "close_notify",
    "handshake eof",
];

/// An error in words.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    /// For clients.
    pub(crate) short: String,
    /// For operators.
    pub(crate) full: String,
}

impl Words {
    pub(crate) fn new(short: impl Into<String>, full: impl Into<String>) -> Self {
        Self { short: short.into(), full: full.into() }
    }
}

/// What may be shown to anybody.
impl<T: Into<String>> From<T> for Words {
    fn from(text: T) -> Self {
        let text = text.into();
        Self { short: text.clone(), full: text }
    }
}

/// Why a name has no address.
pub(crate) fn unresolved(name: &str, error: &io::Error) -> Words {
    let words = error.to_string();
    let words = words.rsplit(": ").next().unwrap_or_default();
    let full = format!("the name {name} cannot be resolved ({})", one_line(words));
    Words::new("its name cannot be resolved", full)
}

/// Why an address cannot be connected to.
pub(crate) fn unconnected(error: &io::Error) -> Words {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route to it".into()
        }
        _ => one_line(&error.to_string()).into(),
    }
}

/// Why a Unix socket cannot be connected to. Without its path, which is the operator's.
pub(crate) fn socket(error: &io::Error) -> Words {
    match error.kind() {
        io::ErrorKind::NotFound => "its socket does not exist".into(),
        io::ErrorKind::PermissionDenied => Words::new(
            "permission denied at its socket",
            "permission denied at its socket; add the user that runs the gateway to the socket's group",
        ),
        io::ErrorKind::ConnectionRefused => "nothing listens at its socket".into(),
        _ => one_line(&error.to_string()).into(),
    }
}

/// Why there is no TLS.
pub(crate) fn handshake(
    error: &io::Error,
    host: &Host,
    files: &TlsFiles,
    shown: Option<Fingerprint>,
) -> Words {
    let chain = Chain::of(error);
    let certificate = |short: &str, full: String| {
        let pin = shown.map_or(String::new(), |shown| {
            format!("; its SHA-256 fingerprint is {shown}: if it is the right one, set `fingerprint` to that")
        });
        Words::new(format!("its certificate {short}"), format!("its certificate {full}{pin}"))
    };
    if chain.says("ApplicationVerificationFailure") {
        let what = "is not the one with the configured fingerprint";
        return certificate("is not trusted", what.to_owned());
    }
    // The second: an authority of the same name with another key.
    if chain.says("UnknownIssuer") || chain.says("BadSignature") {
        let by = match &files.ca {
            Some(ca) => format!("an authority in {}", ca.display()),
            None => "an authority of this system".to_owned(),
        };
        return certificate("is not trusted", format!("is not trusted: it is not signed by {by}"));
    }
    if chain.says("NotValidForName") || chain.says("certificate not valid for name") {
        return certificate("is for another host", format!("is not for {host}"));
    }
    if chain.says("NotValidYet") || chain.says("not valid yet") {
        return "its certificate is not valid yet; compare the clocks".into();
    }
    if chain.says("Expired") || chain.says("expired") {
        return "its certificate has expired".into();
    }
    if chain.says("peer certificate") {
        return certificate("is not trusted", format!("was refused ({})", one_line(&chain.text)));
    }
    if let Some(refused) = refused_by_tls(&chain, files.identity.is_some()) {
        return refused;
    }
    if chain.says("corrupt message") || DROPPED.iter().any(|words| chain.says(words)) {
        let words = one_line(&chain.text);
        return Words::new(
            "it does not appear to speak TLS",
            format!(
                "it does not appear to speak TLS: should its URL begin with http://? ({words})"
            ),
        );
    }
    one_line(&chain.text).into()
}

fn refused_by_tls(chain: &Chain, has_identity: bool) -> Option<Words> {
    let words = one_line(chain.text.rsplit(": ").next().unwrap_or_default());
    chain.says("received fatal alert").then(|| match has_identity {
        true => format!("it refused the gateway's client certificate ({words})").into(),
        false => format!("it appears to require a client certificate ({words})").into(),
    })
}

/// Why a request has no response, or why its body broke off.
pub(crate) fn exchange(error: &(dyn StdError + 'static), has_identity: bool) -> Words {
    let chain = Chain::of(error);
    if let Some(words) = chain.dial {
        return words;
    }
    if let Some(refused) = refused_by_tls(&chain, has_identity) {
        return refused;
    }
    if chain.says("invalid HTTP") || chain.says("http2 error") && chain.says("frame with invalid") {
        let full = format!("what it sent is not HTTP ({})", one_line(&chain.text));
        return Words::new("what it sent is not HTTP", full);
    }
    if chain.says("message head is too large") {
        return "the head of its response is larger than allowed".into();
    }
    if chain.says("connection closed before message completed") {
        return "it closed the connection before it answered".into();
    }
    let dropped = DROPPED.iter().any(|words| chain.says(words));
    if dropped || chain.says("end of file before message length reached") {
        return "it closed the connection".into();
    }
    Words::new("the exchange with it failed", one_line(&chain.text))
}

/// Another program's text on one line, truncated.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(SHOWN).collect()
}

/// An error and its causes.
struct Chain {
    /// Each text once, from the outside in.
    text: String,
    /// What was said where the connection was made.
    dial: Option<Words>,
}

impl Chain {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut chain = Self { text: String::new(), dial: None };
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(dial) = error.downcast_ref::<DialError>() {
                chain.dial = Some(dial.words().clone());
            }
            let text = error.to_string();
            if !chain.text.contains(&text) {
                if !chain.text.is_empty() {
                    chain.text.push_str(": ");
                }
                chain.text.push_str(&text);
            }
            next = error.source();
            // Its source would be that of the error it wraps, which would then be skipped.
            if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                next = Some(wrapped);
            }
        }
        chain
    }

    fn says(&self, part: &str) -> bool {
        self.text.contains(part)
    }
}

/// Whether a connection was refused because of its address.
pub(crate) fn is_refused_address(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(DialError::Refused(_)) = error.downcast_ref::<DialError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether something was received that is not HTTP.
pub(crate) fn is_parse(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return true;
        }
        next = error.source();
    }
    false
}
