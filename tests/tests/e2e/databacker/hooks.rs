//! Webhooks: a run that has failed is told to whoever wants to know, with a signature, and again if the receiver was down.

use keepgate_tests::databacker::exporter::Exporter;
use keepgate_tests::databacker::spans::Run;
use keepgate_tests::receiver::Receiver;
use ring::hmac;
use serde_json::{Value, json};

use super::{Admin, mounted};

/// The key, and the form in which people copy it.
const SECRET: ([u8; 24], &str) = ([7; 24], "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH");

#[test]
fn a_failed_run_is_told_to_a_receiver() {
    use base64::Engine as _;
    let receiver = Receiver::start();
    let port = receiver.port();
    let addresses = format!(
        "[upstream.hooks]\naddresses = [{{ url = \"http://127.0.0.1:{port}/hook\", private = true }}]"
    );
    let mounted = mounted("upstreams = { hooks = \"hooks\" }", &addresses);
    mounted.setup.write();
    mounted.setup.edit(|text| {
        text.replace("[mount.settings]\n", "[mount.settings]\nwebhooks = \"hooks\"\n")
    });
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let url = format!("http://127.0.0.1:{port}/hook");
    let made = admin
        .post("/admin/webhooks", &json!({"url": url, "events": ["run.error"], "secret": SECRET.1}));
    let listed = admin.get("/admin/webhooks");
    assert!(!listed.to_string().contains(SECRET.1), "{listed}");
    let elsewhere = json!({"url": "http://127.0.0.1:1/", "events": ["run.error"]});
    let refused = admin.send("POST", "/admin/webhooks", &elsewhere.to_string());
    assert!(refused.status == 422 || refused.status == 400, "{}", refused.text());

    let instance = admin.register(&mounted);
    let mut exporter = Exporter::new(&instance.traces(gateway.port()));
    exporter.export(&Run::example(7).spans()).unwrap();
    let failed = Run::example(7).failing("Access denied for user 'backup'");
    let batches = failed.batches();
    for batch in &batches {
        exporter.export(batch).unwrap();
    }
    gateway.eventually("the delivery", |_| !receiver.requests().is_empty());
    let delivery = receiver.requests().remove(0);
    assert_eq!(delivery.line, "POST /hook HTTP/1.1");
    let event: Value = serde_json::from_slice(&delivery.body).unwrap();
    assert_eq!(event["event"], "run.error", "{event}");
    assert_eq!(event["instance"]["id"], instance.id);
    assert_eq!(event["run"]["id"], failed.id);
    assert!(event["run"]["message"].as_str().unwrap().contains("Access denied"));

    // The signature of Standard Webhooks.
    let header = |name| delivery.header(name).unwrap().to_owned();
    let mut signed =
        format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&delivery.body);
    let signature = header("webhook-signature");
    let signature = signature.strip_prefix("v1,").unwrap();
    let signature = base64::prelude::BASE64_STANDARD.decode(signature).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET.0);
    hmac::verify(&key, &signed, &signature).unwrap();

    // The end of the run, sent again, is no other event.
    exporter.export(&batches[2]).unwrap();
    let tested =
        admin.send("POST", &format!("/admin/webhooks/{}/test", made["id"].as_str().unwrap()), "");
    assert!((200..300).contains(&tested.status), "{}", tested.text());
    gateway.eventually("the test", |_| receiver.requests().len() == 2);
    let errors = receiver.requests();
    let errors =
        errors.iter().filter(|one| one.header("webhook-id") == delivery.header("webhook-id"));
    assert_eq!(errors.count(), 1);
    gateway.stop();
}
