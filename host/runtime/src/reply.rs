//! Checks a plugin's reply when it leaves the plugin, so that the rest of the host can trust it.

use keepgate_store::{Body, Fields};

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
    if !(200..=599).contains(&head.status) {
        return Err(CallError::BadReply(format!("the status {}", head.status)));
    }
    check_headers(&head.headers).map_err(CallError::BadReply)?;
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// Checks the headers of a reply, or of an interim response. The error says what is wrong with them.
pub(crate) fn check_headers(headers: &Fields) -> Result<(), String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEAD {
        let count = headers.len();
        return Err(format!(
            "{count} headers of {bytes} bytes; at most {MAX_HEADERS} of {MAX_HEAD} bytes are allowed"
        ));
    }
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("the header name {:?}", shorten(name, SHOWN)));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
            let (value, name) = (shorten(value, SHOWN), shorten(name, SHOWN));
            return Err(format!("the value {value:?} of the header {name}"));
        }
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return Err(format!("the header {name}, which is the gateway's to send"));
        }
    }
    Ok(())
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
