//! Checks a plugin's reply when it leaves the plugin, so that the rest of the host can trust it.

use keepgate_store::Body;

use crate::guest_log::shorten;
use crate::streamed_reply::Head;
use keepgate_core::{CallError, Reply};

/// Headers that frame the message, which the host sends.
const FRAMING: [&str; 4] = ["connection", "transfer-encoding", "upgrade", "keep-alive"];

/// The most headers of a reply, ...
const MAX_HEADERS: usize = 256;
/// ... and the most bytes of their names and values. Clients accept less.
const MAX_HEAD: usize = 64 << 10;
/// How much of a bad value goes to the log.
const SHOWN: usize = 200;

/// Turns a head and a body into a reply, or says what is wrong with it.
pub(crate) fn check(head: Head, body: Body) -> Result<Reply, CallError> {
    let bad = |why: String| Err(CallError::BadReply(why));
    if !(200..=599).contains(&head.status) {
        return bad(format!("the status {}", head.status));
    }
    let bytes: usize = head.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if head.headers.len() > MAX_HEADERS || bytes > MAX_HEAD {
        let count = head.headers.len();
        return bad(format!(
            "{count} headers of {bytes} bytes; at most {MAX_HEADERS} of {MAX_HEAD} bytes are allowed"
        ));
    }
    for (name, value) in &head.headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return bad(format!("the header name {:?}", shorten(name, SHOWN)));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
            let (value, name) = (shorten(value, SHOWN), shorten(name, SHOWN));
            return bad(format!("the value {value:?} of the header {name}"));
        }
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return bad(format!("the header {name}, which is the gateway's to send"));
        }
    }
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, name: &str, value: &str) -> Result<Reply, CallError> {
        let head = Head { status, headers: vec![(name.to_owned(), value.to_owned())] };
        check(head, Body::empty())
    }

    #[test]
    fn a_reply_that_is_not_http_is_refused() {
        assert!(reply(200, "content-type", "text/plain").is_ok());
        assert!(reply(200, "x-name", "ünï\tcode").is_ok());
        assert!(reply(42, "a", "b").is_err());
        assert!(reply(101, "a", "b").is_err());
        assert!(reply(200, "a b", "c").is_err());
        assert!(reply(200, "", "c").is_err());
        assert!(reply(200, "a", "b\r\nset-cookie: c").is_err());
        assert!(reply(200, "Transfer-Encoding", "chunked").is_err());
        assert!(reply(200, "a", &"b".repeat(MAX_HEAD)).is_err());
        let many = vec![("a".to_owned(), "b".to_owned()); MAX_HEADERS + 1];
        assert!(check(Head { status: 200, headers: many }, Body::empty()).is_err());
        let Err(error) = reply(200, "a", &"\n".repeat(10_000)) else { panic!("let through") };
        assert!(error.to_string().len() < 1000, "{error}");
    }
}
