//! Forms are filled in as their type requires, and a mistake in a declaration is refused with its place.

use serde_json::{Value, json};

use super::*;

const REFUSED: Refused<'_> = Refused {
    status: 503,
    reason: "Service Unavailable",
    code: "unavailable",
    message: "nothing serves this path at the moment",
    request: "r-1",
};

fn form(content_type: &str, body: &Value) -> RefusalForm {
    let declaration = json!({"content_type": content_type, "body": body}).to_string();
    RefusalForm::parse(declaration.as_bytes()).unwrap()
}

fn refused(declaration: &str) -> String {
    RefusalForm::parse(declaration.as_bytes()).unwrap_err().to_string()
}

#[test]
fn json_keeps_its_members_in_order() {
    let declaration = br#"{
        "content_type": "application/json",
        "body": {"z": "{code}", "errors": [{"status": "{status}", "text": "{status} {reason}: {message}"}],
                 "a": [null, true, -1, 2.5], "request": "{request}"}
    }"#;
    let form = RefusalForm::parse(declaration).unwrap();
    assert_eq!(form.content_type(), "application/json");
    assert_eq!(
        form.fill(&REFUSED),
        concat!(
            r#"{"z":"unavailable","errors":[{"status":503,"#,
            r#""text":"503 Service Unavailable: nothing serves this path at the moment"}],"#,
            r#""a":[null,true,-1,2.5],"request":"r-1"}"#
        )
    );
}

#[test]
fn values_cannot_leave_their_place() {
    let evil = Refused { message: "\"}\n<b>&'{code}", ..REFUSED };
    let body = form("application/problem+json", &json!({"m": "{message}"})).fill(&evil);
    let read: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read, json!({"m": "\"} <b>&'{code}"}));
    for xml in ["application/xml", "text/xml; charset=utf-8", "image/svg+xml", "text/html"] {
        let body = form(xml, &json!("<Message>{message}</Message>")).fill(&evil);
        assert_eq!(body, "<Message>&quot;} &lt;b&gt;&amp;&#39;{code}</Message>");
    }
    let body = form("text/plain; charset=\"UTF-8\"", &json!("{message}\n")).fill(&evil);
    assert_eq!(body, "\"} <b>&'{code}\n");
}

#[test]
fn a_status_can_have_a_text_of_its_own() {
    let declaration = json!({
        "content_type": "text/plain",
        "body": "{{{reason}}}",
        "reasons": {"503": "SlowDown"},
    });
    let form = RefusalForm::parse(declaration.to_string().as_bytes()).unwrap();
    assert_eq!(form.fill(&REFUSED), "{SlowDown}");
    let other = Refused { status: 504, reason: "Gateway Timeout", ..REFUSED };
    assert_eq!(form.fill(&other), "{Gateway Timeout}");
}

#[test]
fn mistakes_are_refused_with_their_place_and_what_would_be_right() {
    let json = |rest: &str| format!("{{\"content_type\": \"application/json\",\n {rest}}}");
    let plain =
        |rest: &str| format!("{{\"content_type\": \"text/plain\", \"body\": \"\", {rest}}}");
    let typed = |content_type: &str| json!({"content_type": content_type, "body": ""}).to_string();
    let cases: &[(String, &[&str])] = &[
        (json(r#""body": {"a": "{mesage}"}"#), &["{mesage}", "{message}", "line 2 column"]),
        (json(r#""body": {"a": "{}"}"#), &["unknown placeholder {}"]),
        (json(r#""body": {"a": "{message"}"#), &["brace", "{{", "line 2"]),
        (json(r#""body": {"a": "message}"}"#), &["brace", "}}"]),
        (json(r#""body": {"a": 1, "a": 2}"#), &["\"a\" appears twice", "line 2"]),
        (json(r#""body": "{\"a\": 1}""#), &["unknown placeholder"]),
        (json(r#""body": "text""#), &["`body`", "object or a list", "not a text"]),
        (json(r#""body": 7"#), &["`body`", "object or a list"]),
        (json(r#""body": {"a": 1"#), &["EOF", "line 2"]),
        (json(r#""bdy": {}"#), &["unknown field `bdy`", "`body`"]),
        ("{}".to_owned(), &["missing field `content_type`"]),
        ("[]".to_owned(), &["content_type"]),
        (String::new(), &["EOF"]),
        (json!({"content_type": "text/plain", "body": {}}).to_string(), &["expected a text"]),
        (plain(r#""reasons": {"200": "fine"}"#), &["400 to 599", "\"200\""]),
        (plain(r#""reasons": {"all": "fine"}"#), &["400 to 599", "\"all\""]),
        (plain(r#""reasons": {"404": ""}"#), &["404", "one line"]),
        (plain(r#""reasons": {"404": "a\nb"}"#), &["404", "one line"]),
        (typed("json"), &["`content_type`", "\"json\"", "application/json"]),
        (typed(""), &["`content_type`", "found \"\""]),
        (typed("text/plain; charset"), &["`content_type`", "found"]),
        (typed("text/plain\r\nset-cookie: a=b"), &["`content_type`", "found"]),
        (typed("application/octet-stream"), &["JSON, XML", "octet-stream"]),
        (typed("text/plain; charset=latin1"), &["UTF-8", "latin1"]),
    ];
    for (declaration, parts) in cases {
        let error = refused(declaration);
        for part in *parts {
            assert!(error.contains(part), "{declaration}: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_or_too_many_are_refused() {
    let error = RefusalForm::parse(b"{\"content_type\": \"\xff\"").unwrap_err().to_string();
    assert!(error.contains("not UTF-8, from byte 18"), "{error}");
    let error = RefusalForm::parse(&vec![b' '; MAX_LENGTH + 1]).unwrap_err().to_string();
    assert!(error.contains("8193 bytes; at most 8192"), "{error}");
    // Deeper than the parser goes, so that neither parsing nor filling in can exhaust the stack.
    let deep = format!("{{\"content_type\": \"application/json\", \"body\": {}", "[".repeat(8000));
    assert!(refused(&deep).contains("recursion limit"));
}
