//! The reason phrase of a refusal. Many clients show nothing but the status line: restic prints `unexpected HTTP response
//! (403): 403 Forbidden`. So the first line of a refusal in plain text is in the status line, too, where there is one: in
//! HTTP/1. HTTP/2 has none.

use http::response::Parts;
use http::{StatusCode, header};
use hyper::ext::ReasonPhrase;

/// Bytes of the longest phrase.
const LONGEST: usize = 300;

/// Puts the first line of a refusal in plain text, such as `Forbidden: append-only: …`, into its status line. A line that does
/// not begin with the usual phrase says something else, and so does one without more than that.
pub(crate) fn add(head: &mut Parts, text: &[u8]) {
    if let Some(phrase) = phrase(head.status, text)
        && is_plain_text(head)
        && let Ok(phrase) = ReasonPhrase::try_from(phrase)
    {
        head.extensions.insert(phrase);
    }
}

/// How much of a body [`add`] may need to see; none of a response that is no refusal.
pub(crate) fn seen(status: StatusCode) -> Option<usize> {
    (status.is_client_error() || status.is_server_error()).then_some(4096)
}

fn is_plain_text(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

fn phrase(status: StatusCode, text: &[u8]) -> Option<Vec<u8>> {
    seen(status)?;
    let usual = status.canonical_reason()?;
    let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next()?.trim_ascii();
    let said = line.strip_prefix(usual.as_bytes())?.strip_prefix(b": ")?;
    if said.is_empty() {
        return None;
    }
    // Whatever a client might take for the end of the line, or not take at all.
    let shown = |byte: &u8| if matches!(byte, b' '..=b'~') { *byte } else { b'?' };
    Some(line.iter().take(LONGEST).map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(status: u16, text: &str, phrase: Option<&str>) {
        let made = super::phrase(StatusCode::from_u16(status).unwrap(), text.as_bytes());
        assert_eq!(made.map(|made| String::from_utf8(made).unwrap()).as_deref(), phrase);
    }

    #[test]
    fn the_reason_of_a_refusal_is_its_phrase() {
        let text = "Forbidden: retained: a/b may not be deleted before 2026-12-31\n";
        becomes(403, text, Some(text.trim_end()));
        becomes(
            507,
            "Insufficient Storage: the quota is 1 B",
            Some("Insufficient Storage: the quota is 1 B"),
        );
        becomes(403, "Forbidden: a\u{e9}\u{7f}\tb\r\nX-Forged: c", Some("Forbidden: a????b"));
        for other in ["Forbidden\n", "Forbidden: \n", "Not Found: a", "", "\nForbidden: a", "{}"] {
            becomes(403, other, None);
        }
        becomes(200, "OK: fine", None);
        becomes(599, "whatever: a", None);
        let long = format!("Forbidden: {}", "x".repeat(1000));
        becomes(403, &long, Some(&long[..LONGEST]));
    }

    #[test]
    fn only_plain_text_is_said_twice() {
        for (kind, has) in
            [("text/plain", true), ("text/plain; charset=utf-8", true), ("text/html", false)]
        {
            let response = http::Response::builder().status(403).header("content-type", kind);
            let (mut head, ()) = response.body(()).unwrap().into_parts();
            add(&mut head, b"Forbidden: a");
            assert_eq!(head.extensions.get::<ReasonPhrase>().is_some(), has, "{kind}");
        }
    }
}
