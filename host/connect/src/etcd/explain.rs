//! Turns errors into messages that tell a person what to do. gRPC libraries wrap a cause several
//! times and say "transport error"; what matters is deep inside, partly only as text. So this code
//! searches the texts of the whole chain, and shows them unchanged if it knows none of them.
//!
//! The tests with real members check these phrases against the libraries' texts.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use etcd_client::Error;
use tonic::{Code, Status};

use super::credentials::Credentials;
use super::url::Url;

/// How many characters of another program's text are shown.
const SHOWN: usize = 300;

/// Texts that libraries put around a cause and that say nothing.
const WRAPPING: [&str; 5] = [
    "transport error: ",
    "connection error: ",
    "error reading a body from connection: ",
    "h2 protocol error: ",
    "tcp connect error: ",
];

/// What libraries say if a connection ends without an explanation.
const DROPPED: [&str; 6] = [
    "broken pipe",
    "onnection reset",
    "connection closed",
    "unexpected end of file",
    "close_notify",
    "handshake eof",
];

/// The member, and the credentials used.
pub(super) struct Peer<'a> {
    pub(super) url: &'a Url,
    pub(super) credentials: &'a Credentials,
    pub(super) stage: Stage,
}

/// How far the connection had come, because its end means something different at each stage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, TLS included.
    Connecting,
    /// Connected, but nothing was received yet.
    Connected,
    /// The member has answered.
    Answered,
}

/// Explains why a call failed.
pub(super) fn error(error: &Error, peer: &Peer<'_>) -> String {
    match error {
        Error::GRpcStatus(status) => match status.source() {
            // Created on this side because a connection failed.
            Some(source) => transport(source, peer),
            None => refusal(status, peer),
        },
        Error::TransportError(error) => transport(error, peer),
        other => one_line(&other.to_string()),
    }
}

/// Whether a cluster says that signing in is not required.
pub(super) fn needs_no_login(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.message().contains("authentication is not enabled"))
}

/// Whether a member refuses because of what the user may do, or because there is none.
pub(super) fn is_about_rights(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.source().is_none()
        && (status.code() == Code::PermissionDenied
            || ["permission denied", "user name is empty"].iter().any(|part| status.message().contains(part))))
}

/// Explains a member's answer.
fn refusal(status: &Status, peer: &Peer<'_>) -> String {
    let message = status.message();
    let is = |part: &str| message.contains(part);
    if is("user name is empty") {
        return "the cluster requires a user and a password (auth: user name is empty), but none \
                are configured"
            .to_owned();
    }
    if is("invalid user ID or password") {
        return "authentication failed: the cluster has no such user with this password".to_owned();
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
    // This also covers the answers of servers that do not speak gRPC.
    let words = one_line(message);
    match explain_protocol(&words, peer) {
        Some(explained) => explained,
        None => format!("it failed: {words}"),
    }
}

/// Explains why there is no connection, or why one broke.
pub(super) fn transport(error: &(dyn StdError + 'static), peer: &Peer<'_>) -> String {
    let chain = Chain::of(error);
    let host = peer.url.host();
    match chain.io {
        Some(io::ErrorKind::ConnectionRefused) => return "connection refused".to_owned(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            return format!("no route to {host}");
        }
        _ => {}
    }
    if chain.says("failed to lookup address") || chain.says("dns error") {
        let words = chain.text.rsplit(": ").next().unwrap_or_default();
        return format!("the name {host} cannot be resolved ({})", one_line(words));
    }
    let words = detail(&chain.text);
    match explain_protocol(&chain.text, peer) {
        Some(explained) => explained,
        None if peer.stage == Stage::Answered => format!("the connection broke ({words})"),
        None => words,
    }
}

/// Whether connecting took too long.
pub(super) fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    Chain::of(error).io == Some(io::ErrorKind::TimedOut)
}

/// Explains why the files cannot be used together.
pub(super) fn broken_files(error: &(dyn StdError + 'static), peer: &Peer<'_>) -> String {
    let chain = Chain::of(error);
    match &peer.credentials.certificate {
        Some(certificate) if chain.says("KeyMismatch") => {
            format!("the key is not the one of the certificate in {}", certificate.display())
        }
        _ if chain.says("no native certs") => {
            "this system has no certificate authorities: name the cluster's own as ca".to_owned()
        }
        _ => format!("its certificates cannot be used for {}: {}", peer.url, detail(&chain.text)),
    }
}

/// Explains errors of TLS and of other protocols.
fn explain_protocol(text: &str, peer: &Peer<'_>) -> Option<String> {
    let says = |part: &str| text.contains(part);
    let url = peer.url;
    if says("UnknownIssuer") {
        return Some(match &peer.credentials.ca {
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
    if let Some(ca) = &peer.credentials.ca
        && (says("CaUsedAsEndEntity") || says("UnsupportedCertVersion"))
    {
        let what = match says("CaUsedAsEndEntity") {
            true => "that of an authority (CA:TRUE)",
            false => "of X.509 version 1",
        };
        return Some(format!(
            "its certificate is {what}, which is accepted if the file contains this very certificate: \
             add it to {}",
            ca.display()
        ));
    }
    if says("peer certificate") && (says("Expired") || says("expired")) {
        return Some("its certificate has expired".to_owned());
    }
    if says("peer certificate") {
        return Some(format!("its certificate was refused ({})", detail(text)));
    }
    let dropped = DROPPED.iter().any(|words| says(words));
    // A client refused in TLS 1.3 learns it with its first call, or finds the connection closed.
    if says("received fatal alert") || (peer.stage == Stage::Connected && url.is_tls() && dropped) {
        return Some(tls_refusal(text, peer.credentials.certificate.as_deref()));
    }
    if says("HTTP/2 was not negotiated") {
        return Some("it speaks TLS, but not HTTP/2: is it a client URL of etcd?".to_owned());
    }
    if url.is_tls() && (says("corrupt message") || peer.stage == Stage::Connecting && dropped) {
        return Some(format!(
            "it does not appear to speak TLS: should the endpoint begin with http://? ({})",
            detail(text)
        ));
    }
    let no_http2 = dropped || says("frame with invalid size") || says("http2 error");
    if !url.is_tls() && peer.stage != Stage::Answered && no_http2 {
        return Some(format!(
            "it does not appear to speak HTTP/2 without TLS: should the endpoint begin with \
             https://? ({})",
            detail(text)
        ));
    }
    None
}

/// Explains why a member refuses a TLS connection.
fn tls_refusal(text: &str, certificate: Option<&Path>) -> String {
    let words = detail(text);
    match certificate {
        None => format!("it appears to require a client certificate ({words})"),
        Some(file) => {
            format!(
                "it refused the connection, perhaps because of the certificate in {} ({words})",
                file.display()
            )
        }
    }
}

/// The text of a chain without what only wraps it.
fn detail(text: &str) -> String {
    let mut text = text;
    while let Some(rest) = WRAPPING.iter().find_map(|wrapping| text.strip_prefix(wrapping)) {
        text = rest;
    }
    one_line(text)
}

/// Another program's text on one line, truncated.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(SHOWN).collect()
}

/// An error and its causes.
struct Chain {
    /// Each text once, from the outside in.
    text: String,
    /// The system's error, if there is one.
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
                // Its source would be that of the error it wraps, which would then be skipped.
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
