//! What went wrong, in words that a person can act on. gRPC's libraries wrap a cause several times
//! over and say "transport error"; what matters is deep inside, partly as text only. So the texts
//! of the whole chain are searched. Where none is known they are shown as they are.
//!
//! The tests against real members hold these phrases against the libraries' words.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use etcd_client::Error;
use tonic::{Code, Status};

use super::access::Access;
use super::url::Url;

/// Characters of a foreign text that are shown.
const SHOWN: usize = 300;

/// What libraries put around a cause, which tells nobody anything.
const WRAPPING: [&str; 5] = [
    "transport error: ",
    "connection error: ",
    "error reading a body from connection: ",
    "h2 protocol error: ",
    "tcp connect error: ",
];

/// What is said where a connection ends without a word.
const DROPPED: [&str; 6] = [
    "broken pipe",
    "onnection reset",
    "connection closed",
    "unexpected end of file",
    "close_notify",
    "handshake eof",
];

/// Who was spoken to, and with what.
pub(super) struct Peer<'a> {
    pub(super) url: &'a Url,
    pub(super) access: &'a Access,
    pub(super) stage: Stage,
}

/// How far things had come. A connection that ends means something else each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, TLS included.
    Connecting,
    /// Connected; nothing was heard yet.
    Unheard,
    /// It has answered.
    Heard,
}

/// Why a call failed.
pub(super) fn error(error: &Error, peer: &Peer<'_>) -> String {
    match error {
        Error::GRpcStatus(status) => match status.source() {
            // Made on this side, of a connection that failed.
            Some(source) => transport(source, peer),
            None => refusal(status, peer),
        },
        Error::TransportError(error) => transport(error, peer),
        other => one_line(&other.to_string()),
    }
}

/// Whether a cluster says that nobody needs to sign in.
pub(super) fn needs_no_login(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.message().contains("authentication is not enabled"))
}

/// What a member answered.
fn refusal(status: &Status, peer: &Peer<'_>) -> String {
    let message = status.message();
    let is = |part: &str| message.contains(part);
    if is("user name is empty") {
        return "the cluster wants user and password (auth: user name is empty), and none are \
                configured"
            .to_owned();
    }
    if is("invalid user ID or password") {
        return "authentication failed: the cluster knows no such user with this password"
            .to_owned();
    }
    if status.code() == Code::PermissionDenied || is("permission denied") {
        return "permission denied: the user needs the role root to take snapshots".to_owned();
    }
    if status.code() == Code::Unimplemented {
        return "it does not offer this: is it the client URL of an etcd 3.4 or newer?".to_owned();
    }
    if message.is_empty() || status.code() == Code::Unknown && is("grpc-status") {
        return format!("it ended the call without saying why ({})", status.code());
    }
    // What is made of an answer that is no gRPC at all, too.
    let words = one_line(message);
    match foreign(&words, peer) {
        Some(explained) => explained,
        None => format!("it failed: {words}"),
    }
}

/// Why there is no connection, or why one broke.
pub(super) fn transport(error: &(dyn StdError + 'static), peer: &Peer<'_>) -> String {
    let chain = Chain::of(error);
    let host = peer.url.host();
    match chain.io {
        Some(io::ErrorKind::ConnectionRefused) => return "connection refused".to_owned(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            return format!("there is no route to {host}");
        }
        _ => {}
    }
    if chain.says("failed to lookup address") || chain.says("dns error") {
        let words = chain.text.rsplit(": ").next().unwrap_or_default();
        return format!("the name {host} cannot be resolved ({})", one_line(words));
    }
    let words = detail(&chain.text);
    match foreign(&chain.text, peer) {
        Some(explained) => explained,
        None if peer.stage == Stage::Heard => format!("the connection broke ({words})"),
        None => words,
    }
}

/// Whether connecting took too long.
pub(super) fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    Chain::of(error).io == Some(io::ErrorKind::TimedOut)
}

/// Why the files cannot be used together.
pub(super) fn broken_files(error: &(dyn StdError + 'static), peer: &Peer<'_>) -> String {
    let chain = Chain::of(error);
    match &peer.access.certificate {
        Some(certificate) if chain.says("KeyMismatch") => {
            format!("the key is not the one of the certificate in {}", certificate.display())
        }
        _ if chain.says("no native certs") => {
            "this system has no certificate authorities: name the cluster's own as ca".to_owned()
        }
        _ => format!("its certificates cannot be used for {}: {}", peer.url, detail(&chain.text)),
    }
}

/// What is known of TLS and of other protocols.
fn foreign(text: &str, peer: &Peer<'_>) -> Option<String> {
    let says = |part: &str| text.contains(part);
    let url = peer.url;
    if says("UnknownIssuer") {
        return Some(match &peer.access.ca {
            Some(ca) => format!(
                "its certificate is not trusted: it is not signed by an authority in {}",
                ca.display()
            ),
            None => "its certificate is not trusted: none of this system's authorities signed it; \
                     name the cluster's own as ca"
                .to_owned(),
        });
    }
    if says("NotValidForName") || says("certificate not valid for name") {
        return Some(format!("its certificate is not for {}", url.host()));
    }
    if says("peer certificate") && (says("Expired") || says("expired")) {
        return Some("its certificate has expired".to_owned());
    }
    if says("peer certificate") {
        return Some(format!("its certificate is refused ({})", detail(text)));
    }
    let dropped = DROPPED.iter().any(|words| says(words));
    // Who is refused in TLS 1.3 learns it with the first call, or finds the connection gone.
    if says("received fatal alert") || (peer.stage == Stage::Unheard && url.is_tls() && dropped) {
        return Some(turned_away(text, peer.access.certificate.as_deref()));
    }
    if says("HTTP/2 was not negotiated") {
        return Some("it speaks TLS, but no HTTP/2: is it a client URL of etcd?".to_owned());
    }
    if url.is_tls() && (says("corrupt message") || peer.stage == Stage::Connecting && dropped) {
        return Some(format!(
            "it does not speak TLS, it seems: should the endpoint begin with http://? ({})",
            detail(text)
        ));
    }
    let no_http2 = dropped || says("frame with invalid size") || says("http2 error");
    if !url.is_tls() && peer.stage != Stage::Heard && no_http2 {
        return Some(format!(
            "it does not speak HTTP/2 in the clear, it seems: should the endpoint begin with \
             https://? ({})",
            detail(text)
        ));
    }
    None
}

/// What it means that a member refuses the connection.
fn turned_away(text: &str, certificate: Option<&Path>) -> String {
    let words = detail(text);
    match certificate {
        None => format!("it refuses to speak without a client certificate, it seems ({words})"),
        Some(file) => {
            format!(
                "it refuses the connection: perhaps the certificate in {} ({words})",
                file.display()
            )
        }
    }
}

/// A chain's text without what only wraps it.
fn detail(text: &str) -> String {
    let mut text = text;
    while let Some(rest) = WRAPPING.iter().find_map(|wrapping| text.strip_prefix(wrapping)) {
        text = rest;
    }
    one_line(text)
}

/// A foreign text, on one line and not without end.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(SHOWN).collect()
}

/// An error and what caused it.
struct Chain {
    /// Each text once, from the outside in.
    text: String,
    /// What the system says, where it does.
    io: Option<io::ErrorKind>,
}

impl Chain {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut chain = Self { text: String::new(), io: None };
        let mut next = Some(error);
        while let Some(error) = next {
            chain.add(error);
            next = error.source();
            if let Some(error) = error.downcast_ref::<io::Error>() {
                chain.io = Some(error.kind());
                // Its source is that of what it wraps, which would be passed over.
                if let Some(wrapped) = error.get_ref() {
                    next = Some(wrapped);
                }
            }
        }
        chain
    }

    fn add(&mut self, error: &dyn StdError) {
        let text = error.to_string();
        if !self.text.contains(&text) {
            if !self.text.is_empty() {
                self.text.push_str(": ");
            }
            self.text.push_str(&text);
        }
    }

    fn says(&self, part: &str) -> bool {
        self.text.contains(part)
    }
}
