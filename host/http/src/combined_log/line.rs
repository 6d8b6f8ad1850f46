//! What a line looks like. Nothing that a client sends may look like the end of a field or of a
//! line, or reach the terminal of whoever reads the log.

use std::fmt::Write as _;

use http::{HeaderValue, Uri};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::service::Visit;

/// Of a target or a header, at most so many bytes are written.
const MAX_FIELD: usize = 4096;

/// What nginx calls a request whose client went away before it had a status. A number, because
/// readers of logs want one.
const CLIENT_GONE: u16 = 499;

/// One line, with its end.
pub(super) fn of(visit: &Visit, zone: &TimeZone) -> String {
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{} - ", visit.peer);
    match visit.user.as_deref() {
        None | Some("") => line.push('-'),
        // Unlike within quotes, a blank would end the field.
        Some(user) => escape(&mut line, user.as_bytes(), true),
    }
    let begun = Timestamp::try_from(visit.begun).unwrap_or_default().to_zoned(zone.clone());
    let _ = write!(line, " [{}] \"", begun.strftime("%d/%b/%Y:%H:%M:%S %z"));
    escape(&mut line, visit.method.as_str().as_bytes(), false);
    line.push(' ');
    escape(&mut line, target(&visit.target).as_bytes(), false);
    let status = visit.status.map_or(CLIENT_GONE, |status| status.as_u16());
    let _ = write!(line, " {:?}\" {status} {} \"", visit.version, visit.sent);
    header(&mut line, visit.referer.as_ref());
    line.push_str("\" \"");
    header(&mut line, visit.user_agent.as_ref());
    line.push_str("\"\n");
    line
}

/// The path and query, or of CONNECT the host and port. Not what else an absolute target has,
/// which may be a password.
fn target(uri: &Uri) -> &str {
    match (uri.path_and_query(), uri.authority()) {
        (Some(path), _) => path.as_str(),
        (None, Some(authority)) => {
            let whole = authority.as_str();
            whole.rsplit_once('@').map_or(whole, |(_, host)| host)
        }
        (None, None) => "-",
    }
}

/// Empty where there is none, as rest-server has it.
fn header(line: &mut String, value: Option<&HeaderValue>) {
    escape(line, value.map_or(b"".as_slice(), HeaderValue::as_bytes), false);
}

/// Writes bytes as Apache does: quotes, backslashes and whatever is not printable ASCII with a
/// backslash.
fn escape(line: &mut String, bytes: &[u8], blanks: bool) {
    for &byte in bytes.iter().take(MAX_FIELD) {
        match byte {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x08 => line.push_str("\\b"),
            0x0b => line.push_str("\\v"),
            b' ' if blanks => line.push_str("\\x20"),
            b' '..=b'~' => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    if bytes.len() > MAX_FIELD {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::{Method, StatusCode, Version};

    use super::*;
    use crate::connection::Peer;

    fn visit() -> Visit {
        Visit {
            begun: UNIX_EPOCH + Duration::from_millis(1_795_262_400_999),
            took: Duration::ZERO,
            peer: Peer::Tcp("192.0.2.7:1234".parse().unwrap()),
            user: None,
            method: Method::GET,
            target: "/data/?q=1".parse().unwrap(),
            version: Version::HTTP_11,
            status: Some(StatusCode::OK),
            sent: 5,
            referer: None,
            user_agent: None,
        }
    }

    fn value(bytes: &[u8]) -> Option<HeaderValue> {
        Some(HeaderValue::from_bytes(bytes).unwrap())
    }

    #[test]
    fn lines_have_rest_servers_shape() {
        let line = of(&visit(), &TimeZone::UTC);
        let expected = "192.0.2.7 - - [21/Nov/2026:12:00:00 +0000] \"GET /data/?q=1 HTTP/1.1\" \
                        200 5 \"\" \"\"\n";
        assert_eq!(line, expected);

        let other = Visit {
            peer: Peer::Unix,
            user: Some("zoë b".to_owned()),
            method: Method::POST,
            target: "https://u:secret@backup.example/x".parse().unwrap(),
            version: Version::HTTP_2,
            status: None,
            sent: 0,
            referer: value(b"http://a/"),
            user_agent: value(b"restic/0.18 (linux)"),
            ..visit()
        };
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let expected = "unix - zo\\xc3\\xab\\x20b [21/Nov/2026:09:00:00 -0300] \
                        \"POST /x HTTP/2.0\" 499 0 \"http://a/\" \"restic/0.18 (linux)\"\n";
        assert_eq!(of(&other, &zone), expected);
    }

    #[test]
    fn nothing_that_a_client_sends_ends_a_field() {
        let sly = Visit {
            user: Some("a \"b\n".to_owned()),
            target: "/a\"b\\c".parse().unwrap(),
            referer: value(b"\"\\ \t\xff\""),
            user_agent: value(&[b'x'; MAX_FIELD + 1]),
            ..visit()
        };
        let line = of(&sly, &TimeZone::UTC);
        let long = "x".repeat(MAX_FIELD);
        let expected = format!(
            "192.0.2.7 - a\\x20\\\"b\\n [21/Nov/2026:12:00:00 +0000] \
             \"GET /a\\\"b\\\\c HTTP/1.1\" 200 5 \"\\\"\\\\ \\t\\xff\\\"\" \"{long}...\"\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn targets_without_a_path() {
        let target = |text: &str| target(&text.parse().unwrap()).to_owned();
        assert_eq!(target("*"), "*");
        assert_eq!(target("backup.example:443"), "backup.example:443");
        assert_eq!(target("u:secret@backup.example:443"), "backup.example:443");
        assert_eq!(target("http://backup.example"), "/");
    }
}
