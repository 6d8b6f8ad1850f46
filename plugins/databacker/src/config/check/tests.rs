use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::document;

const KEY: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";

fn fingerprint() -> String {
    format!("sha256:{}", "0a".repeat(32))
}

/// Everything that the API has.
pub(super) fn local() -> Value {
    json!({
        "version": "config.databack.io/v1",
        "kind": "local",
        "metadata": {"name": "a", "description": "b", "digest": "c", "created": "2026-01-31T00:00:00Z"},
        "spec": {
            "database": {"server": "db", "port": 3306, "credentials": {"username": "u", "password": "p"}},
            "dump": {
                "include": ["a"], "exclude": ["b"], "safechars": true, "noDatabaseName": false,
                "skipExtendedInsert": true, "schedule": {"cron": "0 3 * * *", "once": false},
                "compression": "gzip", "compact": true, "triggers": true, "routines": true,
                "maxAllowedPacket": 4194304, "filenamePattern": "x",
                "encryption": {"algorithm": "aes256-cbc", "key": "k", "keyPath": "/k"},
                "targets": ["s3", "my share", "disk"], "parallelism": 2,
                "scripts": {"preBackup": "/a", "postBackup": "/b"},
            },
            "targets": {
                "s3": {"type": "s3", "url": "s3://bucket/path", "spec": {
                    "region": "r", "endpoint": "https://e", "pathStyle": true, "accessKeyID": "i", "secretAccessKey": "s",
                }},
                "my share": {"type": "smb", "url": "smb://h/s/p", "spec": {"domain": "d", "username": "u", "password": "p"}},
                "disk": {"type": "file", "url": "file:///backup"},
            },
            "telemetry": {
                "url": "https://h/t", "credentials": KEY, "certificates": [fingerprint()], "bufferSize": 10,
            },
            "prune": {"retention": "7d"},
            "restore": {"preRestore": "/a", "postRestore": "/b"},
            "logging": "info",
        },
    })
}

fn remote() -> Value {
    json!({
        "version": "config.databack.io/v1",
        "kind": "remote",
        "spec": {"url": "https://h/c", "credentials": KEY, "certificates": [fingerprint()]},
    })
}

fn encrypted() -> Value {
    let data = BASE64_STANDARD.encode([0; 28]);
    json!({
        "version": "config.databack.io/v1",
        "kind": "encrypted",
        "spec": {"algorithm": "aes256-gcm", "recipientPublicKey": KEY, "senderPublicKey": KEY, "data": data},
    })
}

fn of(document: &Value) -> Vec<(String, String)> {
    let _host = keepgate_sdk::testing::Host::new();
    faults(document, Some(KEY)).into_iter().map(|fault| (fault.path, fault.message)).collect()
}

/// The document with another value at a place, or without it.
fn with(mut document: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        (parent, Some(value)) => parent[name] = value,
        (parent, None) => drop(parent.as_object_mut().unwrap().remove(name)),
    }
    document
}

#[test]
fn whole_documents_and_the_smallest_are_right() {
    let small = json!({"version": "config.databack.io/v1", "kind": "local", "spec": {}});
    for document in [local(), remote(), encrypted(), small] {
        assert_eq!(of(&document), []);
    }
}

#[test]
fn each_fault_has_its_path_and_says_what_to_write() {
    for (document, pointer, value, path, said) in [
        (local(), "/version", Some(json!("v2")), "version", "write \"config.databack.io/v1\""),
        (local(), "/kind", Some(json!("yaml")), "kind", "\"local\" or \"remote\" or \"encrypted\""),
        (local(), "/kind", None, "kind", "required"),
        (local(), "/spec", None, "spec", "required"),
        (local(), "/spec", Some(Value::Null), "spec", "write an object"),
        (local(), "/colour", Some(json!(1)), "colour", "known are version, kind, metadata"),
        (local(), "/metadata", Some(Value::Null), "metadata", "write an object"),
        (local(), "/metadata/name", Some(json!(1)), "metadata.name", "write a text"),
        (local(), "/spec/database/port", Some(json!(65536)), "spec.database.port", "1 to 65535"),
        (local(), "/spec/database/port", Some(json!(0)), "spec.database.port", "1 to 65535"),
        (local(), "/spec/database/port", Some(json!("3306")), "spec.database.port", "1 to 65535"),
        (local(), "/spec/database/port", Some(json!(3306.0)), "spec.database.port", "1 to 65535"),
        (local(), "/spec/database/credentials", None, "spec.database.credentials", "crash"),
        (local(), "/spec/telemetry/credentials", None, "spec.telemetry.credentials", "crash"),
        (local(), "/spec/telemetry/certificates", None, "spec.telemetry.certificates", "crash"),
        (local(), "/spec/telemetry/url", None, "spec.telemetry.url", "required"),
        (local(), "/spec/dump/compact", Some(json!("yes")), "spec.dump.compact", "true or false"),
        (
            local(),
            "/spec/dump/compression",
            Some(json!("xz")),
            "spec.dump.compression",
            "\"bzip2\"",
        ),
        (local(), "/spec/dump/include", Some(json!("a")), "spec.dump.include", "a list of texts"),
        (local(), "/spec/dump/include/0", Some(json!(1)), "spec.dump.include[0]", "write a text"),
        (local(), "/spec/dump/parallelism", Some(json!(0)), "spec.dump.parallelism", "from 1"),
        (
            local(),
            "/spec/dump/maxAllowedPacket",
            Some(json!(-1)),
            "spec.dump.maxAllowedPacket",
            "from 0",
        ),
        (
            local(),
            "/spec/dump/schedule/cron",
            Some(json!("daily")),
            "spec.dump.schedule.cron",
            "five fields",
        ),
        (local(), "/spec/dump/schedule/begin", Some(json!(30)), "spec.dump.schedule.begin", "cron"),
        (local(), "/spec/dump/schedule/once", Some(json!(true)), "spec.dump.schedule.cron", "once"),
        (
            local(),
            "/spec/dump/targets/1",
            Some(json!("nas")),
            "spec.dump.targets[1]",
            "no target \"nas\"",
        ),
        (
            local(),
            "/spec/dump/encryption/algorithm",
            Some(json!("rot13")),
            "spec.dump.encryption.algorithm",
            "age-",
        ),
        (
            local(),
            "/spec/targets/s3/url",
            Some(json!("https://b")),
            "spec.targets.s3.url",
            "with s3://",
        ),
        (local(), "/spec/targets/s3/url", None, "spec.targets.s3.url", "required"),
        (
            local(),
            "/spec/targets/s3/type",
            Some(json!("ftp")),
            "spec.targets.s3.type",
            "\"s3\" or \"smb\"",
        ),
        (
            local(),
            "/spec/targets/s3/spec/username",
            Some(json!("u")),
            "spec.targets.s3.spec.username",
            "region",
        ),
        (
            local(),
            "/spec/targets/my share/url",
            Some(json!("smb://a b")),
            "spec.targets[\"my share\"].url",
            "smb://",
        ),
        (local(), "/spec/targets/disk", Some(json!([])), "spec.targets.disk", "type and url"),
        (
            local(),
            "/spec/targets/",
            Some(json!({"type": "file", "url": "/x"})),
            "spec.targets[\"\"]",
            "1 to 256",
        ),
        (local(), "/spec/prune/retention", Some(json!("soon")), "spec.prune.retention", "\"7d\""),
        (local(), "/spec/logging", Some(json!("loud")), "spec.logging", "\"trace\""),
        (remote(), "/spec/url", Some(json!("ftp://h")), "spec.url", "https://"),
        (remote(), "/spec/url", None, "spec.url", "required"),
        (
            remote(),
            "/spec/credentials",
            Some(json!("AAAA")),
            "spec.credentials",
            "32 bytes in base64",
        ),
        (
            remote(),
            "/spec/certificates",
            Some(json!(fingerprint())),
            "spec.certificates",
            "list of fingerprints",
        ),
        (remote(), "/spec/certificates", Some(json!([])), "spec.certificates", "at least one"),
        (
            remote(),
            "/spec/certificates/0",
            Some(json!(fingerprint().to_uppercase())),
            "spec.certificates[0]",
            "lower-case",
        ),
        (encrypted(), "/spec/algorithm", Some(json!("none")), "spec.algorithm", "\"aes256-gcm\""),
        (encrypted(), "/spec/data", Some(json!("AAAA")), "spec.data", "28 bytes or more"),
        (encrypted(), "/spec/data", Some(json!("*")), "spec.data", "28 bytes or more"),
        (
            encrypted(),
            "/spec/senderPublicKey",
            Some(json!("AAAA")),
            "spec.senderPublicKey",
            "32 bytes",
        ),
        (
            encrypted(),
            "/spec/recipientPublicKey",
            Some(json!(BASE64_STANDARD.encode([9; 32]))),
            "spec.recipientPublicKey",
            KEY,
        ),
    ] {
        let found = of(&with(document, pointer, value));
        let [(at, message)] = found.as_slice() else { panic!("{pointer}: {found:?}") };
        assert!(at == path && message.contains(said), "{pointer}: {at}: {message}");
    }
    assert_eq!(of(&json!([])).len(), 1);
}

#[test]
fn all_faults_come_together_and_not_without_end() {
    let mut document = with(local(), "/spec/database/port", Some(json!(0)));
    document = with(document, "/spec/targets/s3/url", None);
    document = with(document, "/spec/logging", Some(json!(7)));
    let found = of(&document);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["spec.database.port", "spec.logging", "spec.targets.s3.url"]);
    let many = with(local(), "/spec/dump/include", Some(json!(vec![1; 5000])));
    assert_eq!(of(&many).len(), MOST);
}

#[test]
fn no_fault_repeats_a_secret() {
    let mut document =
        with(local(), "/spec/database/credentials/password", Some(json!(["hunter2"])));
    document = with(document, "/spec/targets/s3/url", Some(json!("https://u:hunter2@h")));
    document = with(document, "/spec/telemetry/credentials", Some(json!("hunter2")));
    let found = of(&document);
    assert_eq!(found.len(), 3);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
}

#[test]
fn without_a_key_of_the_instance_nothing_is_encrypted_for_it() {
    let found = faults(&encrypted(), None);
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("encryptionPublicKey first"), "{found:?}");
}

/// JSON of any form, with names that mean something.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!("local")),
        Just(json!("s3")),
        Just(json!("0 3 * * *")),
    ];
    let name = prop_oneof![
        Just("spec"),
        Just("kind"),
        Just("dump"),
        Just("targets"),
        Just("schedule"),
        Just("cron"),
        Just("type"),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone().prop_map(str::to_owned), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_right_or_has_faults(spec in any_json(), whole in any_json()) {
        of(&whole);
        let document = with(local(), "/spec", Some(spec));
        of(&document);
        let bytes = document::to_vec(&document).unwrap();
        prop_assert_eq!(document::parse(&bytes).unwrap(), document);
    }
}
