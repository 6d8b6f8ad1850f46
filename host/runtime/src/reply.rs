//! A plugin's reply, checked where it leaves the plugin: everything behind may trust it.

use keepgate_store::Body;

use crate::call::{CallError, Reply};
use crate::contract::http;

/// Headers that frame the message: the host's business.
const FRAMING: [&str; 4] = ["connection", "transfer-encoding", "upgrade", "keep-alive"];

/// Turns a head and a body into a reply, or says what is wrong with it.
pub(crate) fn check(head: http::Head, body: Body) -> Result<Reply, CallError> {
    let bad = |why: String| Err(CallError::BadReply(why));
    if !(200..=599).contains(&head.status) {
        return bad(format!("the status {}", head.status));
    }
    for (name, value) in &head.headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return bad(format!("the header name {name:?}"));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
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
        let head = http::Head { status, headers: vec![(name.to_owned(), value.to_owned())] };
        check(head, Body::empty())
    }

    #[test]
    fn what_is_no_http_stays_inside() {
        assert!(reply(200, "content-type", "text/plain").is_ok());
        assert!(reply(200, "x-name", "ünï\tcode").is_ok());
        assert!(reply(42, "a", "b").is_err());
        assert!(reply(101, "a", "b").is_err());
        assert!(reply(200, "a b", "c").is_err());
        assert!(reply(200, "", "c").is_err());
        assert!(reply(200, "a", "b\r\nset-cookie: c").is_err());
        assert!(reply(200, "Transfer-Encoding", "chunked").is_err());
    }
}
