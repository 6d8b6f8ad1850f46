//! The format of a line. Nothing that a client sends may end a field or a line, or reach the terminal
//! of the log's reader unescaped.

use std::fmt::Write as _;

use http::{HeaderValue, Uri};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::access_log::AccessLogEntry;

/// Bytes of a target or header that are written.
const MAX_FIELD: usize = 4096;

/// nginx's status for a request whose client went away before there was a response. Log analysers
/// expect a number.
const CLIENT_GONE: u16 = 499;

/// One line, including the line break.
pub(super) fn format(entry: &AccessLogEntry, zone: &TimeZone) -> String {
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{} - ", entry.peer);
    match entry.user.as_deref() {
        None | Some("") => line.push('-'),
        // This field is not quoted: a space would end it.
        Some(user) => escape(&mut line, user.as_bytes(), true),
    }
    let begun = Timestamp::try_from(entry.begun).unwrap_or_default().to_zoned(zone.clone());
    let _ = write!(line, " [{}] \"", begun.strftime("%d/%b/%Y:%H:%M:%S %z"));
    escape(&mut line, entry.method.as_str().as_bytes(), false);
    line.push(' ');
    escape(&mut line, target(&entry.target).as_bytes(), false);
    let status = entry.status.map_or(CLIENT_GONE, |status| status.as_u16());
    let _ = write!(line, " {:?}\" {status} {} \"", entry.version, entry.sent);
    header(&mut line, entry.referer.as_ref());
    line.push_str("\" \"");
    header(&mut line, entry.user_agent.as_ref());
    line.push_str("\"\n");
    line
}

/// The path and query, or the host and port of CONNECT. The rest of an absolute target is left out: it
/// may hold a password.
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

/// Empty if it is missing, as in rest-server's log.
fn header(line: &mut String, value: Option<&HeaderValue>) {
    escape(line, value.map_or(b"".as_slice(), HeaderValue::as_bytes), false);
}

/// Escapes quotes, backslashes and everything but printable ASCII, as Apache does.
fn escape(line: &mut String, bytes: &[u8], spaces: bool) {
    for &byte in bytes.iter().take(MAX_FIELD) {
        match byte {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x08 => line.push_str("\\b"),
            0x0b => line.push_str("\\v"),
            b' ' if spaces => line.push_str("\\x20"),
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
    use crate::peer::Peer;

    fn entry() -> AccessLogEntry {
        AccessLogEntry {
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
    fn lines_match_rest_servers_format() {
        let line = format(&entry(), &TimeZone::UTC);
        let expected = "192.0.2.7 - - [21/Nov/2026:12:00:00 +0000] \"GET /data/?q=1 HTTP/1.1\" \
                        200 5 \"\" \"\"\n";
        assert_eq!(line, expected);

        let other = AccessLogEntry {
            peer: Peer::Unix,
            user: Some("zoë b".to_owned()),
            method: Method::POST,
            target: "https://u:secret@backup.example/x".parse().unwrap(),
            version: Version::HTTP_2,
            status: None,
            sent: 0,
            referer: value(b"http://a/"),
            user_agent: value(b"restic/0.18 (linux)"),
            ..entry()
        };
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let expected = "unix - zo\\xc3\\xab\\x20b [21/Nov/2026:09:00:00 -0300] \
                        \"POST /x HTTP/2.0\" 499 0 \"http://a/\" \"restic/0.18 (linux)\"\n";
        assert_eq!(format(&other, &zone), expected);
    }

    #[test]
    fn clients_cannot_end_a_field_or_a_line() {
        let hostile = AccessLogEntry {
            user: Some("a \"b\n".to_owned()),
            target: "/a\"b\\c".parse().unwrap(),
            referer: value(b"\"\\ \t\xff\""),
            user_agent: value(&[b'x'; MAX_FIELD + 1]),
            ..entry()
        };
        let line = format(&hostile, &TimeZone::UTC);
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
