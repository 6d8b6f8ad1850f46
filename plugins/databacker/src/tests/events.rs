//! Webhooks, and the way of an event to them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use keepgate_sdk::records::Commit;
use keepgate_sdk::testing::TestExchange;
use keepgate_sdk::{Timestamp, jobs};
use sha2::Sha256;

use super::*;
use crate::events;
use crate::instance::Instance;
use crate::key::tests::ED25519_PEM;
use crate::run::{self, Run, Status};

const HOOK: &str = "https://hooks.example.com/a";

/// A host whose webhooks are sent through the upstream `hooks`.
pub(super) fn hooked() -> Host {
    hooked_with(json!({}))
}

pub(super) fn hooked_with(mut further: Value) -> Host {
    further["webhooks"] = "hooks".into();
    let host = host_with(further);
    host.upstream("hooks", &[]);
    host.runs_jobs_of::<Databacker>();
    host
}

/// Makes a webhook as this user and returns it.
pub(super) fn webhook(host: &Host, user: &str, body: &Value) -> Value {
    let reply = send(host.post("/admin/webhooks", body.to_string().as_bytes()).user(user));
    assert_eq!(reply.status, 201, "{}", reply.text());
    json_of(&reply)
}

pub(super) fn all_events() -> Value {
    json!({"url": HOOK, "events": ["run.ok", "run.error", "run.missed", "instance.silent"]})
}

/// Prepares what the receiver answers to the next requests.
pub(super) fn answers(host: &Host, url: &str, statuses: &[u16]) {
    for status in statuses {
        host.upstream("hooks", &[TestExchange::new("POST", url).answer(*status, b"")]);
    }
}

/// An instance of an account, registered in the store.
pub(super) fn instance(host: &Host, account: &str) -> Instance {
    let body = json!({"publicKey": ED25519_PEM, "name": "db1", "account": account});
    let id = register(host, &body)["id"].as_str().unwrap().to_owned();
    Instance::find(&id).unwrap().unwrap().instance
}

pub(super) fn run(instance: &Instance, status: Status, start: Timestamp) -> Run {
    Run {
        id: "r1".to_owned(),
        instance: instance.id.clone(),
        kind: run::Kind::Dump,
        status,
        start,
        end: Some(start),
        bytes: Some(7),
        exit_code: Some(0),
        message: String::new(),
        databases: vec!["shop".to_owned()],
        targets: Vec::new(),
    }
}

/// Ends a run, without the job that follows.
fn end(instance: &Instance, status: Status) {
    let run = run(instance, status, Timestamp(NOW));
    let commit = Commit::new().put("x", b"the run");
    events::run_ended(commit, instance, &run).unwrap().run().unwrap();
}

fn deliveries(host: &Host, webhook: &Value) -> Value {
    let id = webhook["id"].as_str().unwrap();
    json_of(&ann(host.get(&format!("/admin/webhooks/{id}/deliveries"))))
}

/// Lets the time pass and runs what is due by then.
fn later(host: &Host, seconds: u64) {
    host.set_now(Timestamp::now().0 + seconds * SECOND);
    host.run_jobs();
}

#[test]
fn an_event_is_signed_and_delivered_once() {
    let host = hooked();
    let made = webhook(&host, "ann", &all_events());
    let instance = instance(&host, "");
    answers(&host, HOOK, &[204]);
    end(&instance, Status::Ok);
    // As if the gateway had been killed here: nothing was started. The next event, or the daily job, does it.
    assert!(host.jobs().iter().all(|job| job.kind != "deliver"));
    events::flush();
    host.run_jobs();
    events::flush();
    host.run_jobs();

    let sent = host.sent("hooks");
    assert_eq!(sent.len(), 1);
    let header = |name: &str| {
        let found = sent[0].headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!(body["id"], header("webhook-id"));
    assert_eq!((&body["event"], &body["run"]["bytes"]), (&json!("run.ok"), &json!(7)));
    assert_eq!(body["instance"], json!({"id": instance.id, "name": "db1", "account": ""}));
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-timestamp"), (NOW / SECOND).to_string());
    // As a receiver verifies it.
    let secret = made["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(secret).unwrap()).unwrap();
    mac.update(format!("{}.{}.", header("webhook-id"), NOW / SECOND).as_bytes());
    mac.update(&sent[0].body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{signature}"));

    let list = deliveries(&host, &made);
    assert_eq!((&list[0]["status"], &list[0]["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(list[0]["answer"]["status"], 204);
    assert!(host.record_keys().iter().all(|key| !key.starts_with("o/") && !key.starts_with("p/")));
    assert_eq!(host.count("databacker_webhook_deliveries_total delivered"), 1);
}

#[test]
fn what_is_not_taken_is_tried_again_for_a_day() {
    let host = hooked();
    let made = webhook(&host, "ann", &all_events());
    let instance = instance(&host, "");
    answers(&host, HOOK, &[500, 302, 404]);
    let unreachable = TestExchange::new("POST", HOOK).silent();
    host.upstream("hooks", &[unreachable]);
    answers(&host, HOOK, &[503; 6]);
    end(&instance, Status::Error);
    events::flush();
    host.run_jobs();
    let mut seen = Vec::new();
    for pause in [29, 1, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800, 86_400] {
        later(&host, pause);
        seen.push(host.sent("hooks").len());
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]);
    let ids: Vec<_> = host.sent("hooks").iter().map(|sent| sent.headers[1].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let list = deliveries(&host, &made);
    assert_eq!((&list[0]["status"], &list[0]["attempts"]), (&json!("failed"), &json!(10)));
    assert_eq!(host.count("databacker_webhook_deliveries_total retried"), 9);
    assert_eq!(host.count("databacker_webhook_deliveries_total failed"), 1);
}

#[test]
fn a_receiver_that_does_not_answer_is_left_alone() {
    let host = hooked();
    let made = webhook(&host, "ann", &all_events());
    let instance = instance(&host, "");
    (0..5).for_each(|_| end(&instance, Status::Ok));
    answers(&host, HOOK, &[500; 3]);
    events::flush();
    host.run_jobs();
    assert_eq!(host.sent("hooks").len(), 3, "not all five");
    // Another event does not change that.
    end(&instance, Status::Ok);
    events::flush();
    later(&host, 29);
    assert_eq!(host.sent("hooks").len(), 3);
    // Those that were not tried come first.
    answers(&host, HOOK, &[200; 6]);
    later(&host, 1);
    let sent = host.sent("hooks");
    assert_eq!(sent.len(), 9);
    let ids: Vec<_> = sent.iter().map(|sent| &sent.headers[1].1).collect();
    assert!(!ids[..3].contains(&ids[3]), "{ids:?}");
    let list = deliveries(&host, &made);
    let delivered = list.as_array().unwrap().iter().filter(|one| one["status"] == "delivered");
    assert_eq!(delivered.count(), 6);
}

#[test]
fn what_was_sent_just_before_a_crash_is_sent_again_under_its_name() {
    let host = hooked();
    let made = webhook(&host, "ann", &all_events());
    let instance = instance(&host, "");
    end(&instance, Status::Ok);
    let input = json!({"webhook": made["id"]}).to_string();
    let options = jobs::Options::new("x");
    // The deliveries are made; of the job that follows, nothing is written down.
    let outbox = jobs::start("deliver", b"", &options).unwrap();
    jobs::wait(&outbox, jobs::State::Queued, 1).unwrap();
    for job in host.jobs() {
        jobs::cancel(&job.id).unwrap();
    }
    answers(&host, HOOK, &[200, 200]);
    host.fail_commit(Failure::Unavailable("the disk is away".to_owned()));
    jobs::start("deliver", input.as_bytes(), &options).unwrap();
    host.run_jobs();
    let list = deliveries(&host, &made);
    assert_eq!((&list[0]["status"], &list[0]["attempts"]), (&json!("pending"), &json!(0)));
    jobs::start("deliver", input.as_bytes(), &options).unwrap();
    host.run_jobs();
    let sent = host.sent("hooks");
    assert_eq!((sent.len(), &sent[0].body), (2, &sent[1].body));
    assert_eq!(sent[0].headers[1], sent[1].headers[1]);
    assert_eq!(deliveries(&host, &made)[0]["status"], "delivered");
}

#[test]
fn gone_disables_a_webhook() {
    let host = hooked();
    let made = webhook(&host, "ann", &all_events());
    let instance = instance(&host, "");
    answers(&host, HOOK, &[410]);
    (0..2).for_each(|_| end(&instance, Status::Ok));
    events::flush();
    host.run_jobs();
    assert_eq!(host.sent("hooks").len(), 1);
    let id = made["id"].as_str().unwrap();
    let shown = json_of(&ann(host.get(&format!("/admin/webhooks/{id}"))));
    assert_eq!(shown["state"], "disabled");
    assert!(shown["reason"].as_str().unwrap().contains("410"));
    end(&instance, Status::Ok);
    assert!(host.record_keys().iter().all(|key| !key.starts_with("o/") && !key.starts_with("p/")));
    assert_eq!(deliveries(&host, &made).as_array().unwrap().len(), 2);
}

#[test]
fn a_webhook_is_made_shown_tested_and_removed() {
    let host = hooked();
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut body = all_events();
    body["secret"] = given.into();
    let made = webhook(&host, "ann", &body);
    assert_eq!((&made["secret"], &made["state"]), (&json!(given), &json!("active")));
    let path = format!("/admin/webhooks/{}", made["id"].as_str().unwrap());
    for (method, target) in [("GET", "/admin/webhooks"), ("GET", &path), ("GET", "/admin/audit")] {
        let text = ann(host.request(method, target)).text();
        assert!(text.contains(made["id"].as_str().unwrap()) && !text.contains("whsec"), "{text}");
    }
    assert!(
        !String::from_utf8_lossy(
            &host.record(&format!("w/{}", made["id"].as_str().unwrap())).unwrap()
        )
        .contains("MfKQ9r8")
    );

    answers(&host, HOOK, &[200, 500]);
    let test = format!("{path}/test");
    let reply = ann(host.post(&test, b""));
    assert_eq!((reply.status, &json_of(&reply)["status"]), (200, &json!("delivered")));
    let reply = json_of(&ann(host.post(&test, b"")));
    assert_eq!((&reply["status"], &reply["answer"]["status"]), (&json!("failed"), &json!(500)));
    assert_eq!(reply["event"], "test");
    assert_eq!(deliveries(&host, &made).as_array().unwrap().len(), 2);

    assert_eq!(send(host.request("DELETE", &path).user("bob")).status, 403);
    let instance = instance(&host, "");
    answers(&host, HOOK, &[500]);
    end(&instance, Status::Ok);
    events::flush();
    host.run_jobs();
    assert_eq!(ann(host.request("DELETE", &path)).status, 204);
    assert_eq!(ann(host.get(&path)).status, 404);
    later(&host, 30);
    assert!(host.record_keys().iter().all(|key| !key.starts_with("p/")), "nothing waits any more");
    assert_eq!(host.sent("hooks").len(), 3);
}

#[test]
fn what_cannot_be_a_webhook_is_refused_by_name() {
    let host = hooked();
    let inside = "http://169.254.169.254/latest";
    let denied = Failure::Denied("the address is not among those allowed".to_owned());
    host.upstream("hooks", &[TestExchange::new("POST", inside).failing(denied)]);
    let of = |name: &str, value: Value| {
        let mut body = all_events();
        body[name] = value;
        body
    };
    for (body, status, said) in [
        (json!({}), 400, "url"),
        (of("url", inside.into()), 422, "url: the address is not among those allowed"),
        (of("url", format!("https://h/{}", "x".repeat(3000)).into()), 400, "url: at most"),
        (of("events", json!([])), 400, "events: write at least one"),
        (of("events", json!(["test"])), 400, "events: write at least one"),
        (of("events", json!(["run.fine"])), 400, "events"),
        (of("secret", "hunter2".into()), 400, "secret: it is not whsec_"),
        (of("colour", 1.into()), 400, "colour"),
    ] {
        let reply = ann(host.post("/admin/webhooks", body.to_string().as_bytes()));
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        let message = json_of(&reply)["message"].as_str().unwrap().to_owned();
        assert!(message.contains(said) && !message.contains("hunter2"), "{body}: {message}");
    }
    assert!(host.sent("hooks").is_empty());

    let body = all_events().to_string();
    for _ in 0..crate::webhooks::MOST {
        assert_eq!(ann(host.post("/admin/webhooks", body.as_bytes())).status, 201);
    }
    let reply = ann(host.post("/admin/webhooks", body.as_bytes()));
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert_eq!(send(host.post("/admin/webhooks", body.as_bytes()).user("eve")).status, 201);

    let host = hooked();
    host.seal_keys(&[]);
    let reply = ann(host.post("/admin/webhooks", body.as_bytes()));
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert!(reply.text().contains("the secret of a webhook cannot be kept"));
    let host = super::host();
    let reply = ann(host.post("/admin/webhooks", body.as_bytes()));
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("the operator must set `webhooks`"));
}

#[test]
fn accounts_are_apart() {
    let host = hooked();
    let url = |name: &str| format!("https://hooks.example.com/{name}");
    let of = |name: &str| json!({"url": url(name), "events": ["run.ok"]});
    let (acme, all) = (webhook(&host, "eve", &of("acme")), webhook(&host, "ann", &of("all")));
    let mut other = of("other");
    other["account"] = "other".into();
    let other = webhook(&host, "ann", &other);
    assert_eq!((&acme["account"], &all["account"]), (&json!("acme"), &Value::Null));
    assert_eq!(
        send(
            host.post("/admin/webhooks?account=other", of("x").to_string().as_bytes()).user("eve")
        )
        .status,
        403
    );
    let list = json_of(&send(host.get("/admin/webhooks").user("eve")));
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &acme["id"]));
    for (method, below) in [("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")]
    {
        for foreign in [&all, &other] {
            let path = format!("/admin/webhooks/{}{below}", foreign["id"].as_str().unwrap());
            assert_eq!(
                send(host.request(method, &path).user("eve")).status,
                404,
                "{method} {path}"
            );
        }
    }

    for name in ["acme", "all"] {
        answers(&host, &url(name), &[200]);
    }
    let instance = instance(&host, "acme");
    end(&instance, Status::Ok);
    // Nobody wants this one, so nothing is kept of it.
    end(&instance, Status::Error);
    events::flush();
    host.run_jobs();
    let mut told: Vec<_> = host.sent("hooks").into_iter().map(|sent| sent.target).collect();
    told.sort();
    assert_eq!(told, [url("acme"), url("all")]);

    let actions = |user: &str| {
        let list = json_of(&send(host.get("/admin/audit").user(user)));
        let of = |entry: &Value| entry["action"].as_str().unwrap().to_owned();
        let mut actions: Vec<_> = list.as_array().unwrap().iter().map(of).collect();
        actions.sort();
        actions
    };
    assert_eq!(actions("eve"), ["instance.add", "webhook.add"]);
    assert_eq!(actions("bob").len(), 4);
}

#[test]
fn the_account_without_a_name_is_not_everybodys() {
    let host =
        hooked_with(json!({"administrators": [{"name": "ann"}, {"name": "zoe", "account": ""}]}));
    let made = webhook(&host, "zoe", &all_events());
    assert_eq!(made["account"], "");
    let all = webhook(&host, "ann", &all_events());
    let path = format!("/admin/webhooks/{}", all["id"].as_str().unwrap());
    assert_eq!(send(host.get(&path).user("zoe")).status, 404);
    let audit = json_of(&send(host.get("/admin/audit").user("zoe")));
    assert_eq!(audit.as_array().unwrap().len(), 1, "{audit}");
    let instance = instance(&host, "acme");
    end(&instance, Status::Ok);
    answers(&host, HOOK, &[200]);
    events::flush();
    host.run_jobs();
    assert_eq!(host.sent("hooks").len(), 1, "only the one of all accounts");
}

#[test]
fn the_audit_is_read_in_pages_the_newest_first() {
    let host = hooked();
    let instance = instance(&host, "acme");
    let path = format!("/admin/instances/{}", instance.id);
    for name in ["a", "b", "c"] {
        host.set_now(Timestamp::now().0 + SECOND);
        let body = json!({"name": name}).to_string();
        assert_eq!(ann(host.request("PATCH", &path).body(body.as_bytes())).status, 200);
    }
    let mut target = "/admin/audit?limit=3".to_owned();
    let mut details = Vec::new();
    loop {
        let reply = send(host.get(&target).user("eve"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = json_of(&reply);
        details.extend(page.as_array().unwrap().iter().map(|entry| entry["detail"].to_string()));
        let Some(link) = reply.header("link") else { break };
        let url = link.strip_prefix("<http://localhost").and_then(|link| link.split('>').next());
        target = url.unwrap().to_owned();
    }
    assert_eq!(details.len(), 4);
    assert!(details[0].contains("\\\"c\\\"") && details[3] == "\"db1\"", "{details:?}");
    assert_eq!(send(host.get("/admin/audit")).status, 401);
    assert_eq!(ann(host.get("/admin/audit?limit=0")).status, 400);
}
