//! How logs are read: whole, in parts, by level, and as they come.

use super::logs::{line, messages};
use super::telemetry::{Client, RUN, dump};
use super::*;

#[test]
fn logs_are_read_by_level_as_text_and_in_parts() {
    let host = host();
    let client = Client::new(&host);
    for (level, message) in [("debug", "one"), ("warning", "two"), ("panic", "three")] {
        client.logs(&host, &line(RUN, level, message));
    }
    let path = format!("/admin/logs/{RUN}");
    assert_eq!(messages(&host, &format!("{path}?level=warn")), ["two", "three"]);
    assert_eq!(messages(&host, &format!("{path}?level=FATAL")), ["three"]);
    let text = ann(host.get(&path).header("accept", "text/plain"));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    let time = "2026-01-31T00:00:00.000Z";
    assert_eq!(text.text(), format!("{time} DEBUG one\n{time} WARN  two\n{time} FATAL three\n"));
    for (query, status) in [("?level=loud", 400), ("?follow=maybe", 400)] {
        assert_eq!(ann(host.get(&format!("{path}{query}"))).status, status);
    }
    assert_eq!(ann(host.get(&path).header("accept", "image/png")).status, 406);

    // While the run goes on, there are no parts.
    let whole = ann(host.get(&path).header("range", "bytes=0-4"));
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, None));
    client.sends(&host, &dump(1, RUN)[2]);
    let part = |range: &str| ann(host.get(&path).header("range", range));
    let total = whole.body.len();
    for (range, from, to) in [
        ("bytes=0-4", 0, 5),
        ("bytes=50-150", 50, 151),
        ("bytes=100-", 100, total),
        ("bytes=-7", total - 7, total),
        ("bytes=3-99999", 3, total),
    ] {
        let reply = part(range);
        assert_eq!((reply.status, &reply.body[..]), (206, &whole.body[from..to]), "{range}");
        assert_eq!(
            reply.header("content-range"),
            Some(format!("bytes {from}-{}/{total}", to - 1).as_str())
        );
    }
    let beyond = part(&format!("bytes={total}-"));
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some(format!("bytes */{total}").as_str()))
    );
    assert_eq!(part("bytes=5-2").status, 416);
    let several = part("bytes=0-1,3-4");
    assert_eq!(
        (several.status, several.body.len(), several.header("accept-ranges")),
        (200, total, Some("bytes"))
    );
    let head = ann(host.request("HEAD", &path));
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some(total.to_string().as_str()), 0)
    );
    assert_eq!(
        client.list(&host)[0]["completion"],
        200,
        "the run went well, whatever its lines say"
    );
}

#[test]
fn a_log_of_many_pieces_is_whole() {
    let host = host();
    let client = Client::new(&host);
    let expected: Vec<String> = (0..230).map(|number| number.to_string()).collect();
    for message in &expected {
        client.logs(&host, &line(RUN, "info", message));
    }
    client.sends(&host, &dump(1, RUN)[2]);
    let path = format!("/admin/logs/{RUN}");
    assert_eq!(messages(&host, &path), expected);
    let whole = ann(host.get(&path)).body;
    let part = ann(host.get(&path).header("range", "bytes=5-20000"));
    assert_eq!((part.status, &part.body[..]), (206, &whole[5..20001]));
}

#[test]
fn a_log_is_followed_until_its_run_or_the_gateway_ends() {
    let host = host();
    let client = Client::new(&host);
    client.logs(&host, &line(RUN, "info", "one"));
    let path = format!("/admin/logs/{RUN}?follow=true");
    assert_eq!(ann(host.request("HEAD", &path)).status, 200);
    // Other lines of the run, of which it is told while it follows, come before the end of the topics.
    host.close_topics();
    assert_eq!(messages(&host, &path), ["one"]);

    let host = super::host();
    let client = Client::new(&host);
    client.logs(&host, &format!("{}{}", line(RUN, "info", "one"), line(RUN, "error", "two")));
    client.sends(&host, &dump(1, RUN)[2]);
    assert_eq!(messages(&host, &path), ["one", "two"]);
    assert_eq!(messages(&host, &format!("{path}&level=error")), ["two"]);
    // By its trace, too; and a run that has no lines.
    assert_eq!(messages(&host, &format!("/admin/logs/{}", "01".repeat(16))), ["one", "two"]);
    client.sends(&host, &dump(2, "other")[2]);
    assert_eq!(messages(&host, "/admin/logs/other?follow=true"), [""; 0]);
    assert_eq!(ann(host.get("/admin/logs/none")).status, 404);
}

#[test]
fn whoever_follows_hears_of_lines_and_of_the_end() {
    let host = host();
    let client = Client::new(&host);
    let topic = format!("log/{}/{RUN}", client.id);
    let news = keepgate_sdk::topics::Subscription::open(&topic).unwrap();
    let heard = || {
        let next = news.next(std::time::Duration::ZERO);
        next == keepgate_sdk::topics::News::Message(Vec::new())
    };
    assert!(!heard());
    client.logs(&host, &line(RUN, "info", "one"));
    assert!(heard() && !heard());
    client.sends(&host, &dump(1, RUN)[2]);
    assert!(heard() && !heard());
}
