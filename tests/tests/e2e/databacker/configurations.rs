//! Configurations: encrypted for one instance, fetched with certificates that are short-lived or have expired, from servers
//! that the client checks by its own rules.

use std::time::{Duration, SystemTime};

use keepgate_tests::databacker::config::{Document, Kind, Remote, load};
use keepgate_tests::databacker::pins::fingerprint;
use keepgate_tests::databacker::seed::Seed;
use keepgate_tests::databacker::wire::{Identity, Url, connect, get, get_head, send};
use serde_json::{Value, json};

use super::{Admin, MOUNT, Mounted, mounted};

fn document(password: &str) -> Value {
    json!({
        "version": "config.databack.io/v1",
        "kind": "local",
        "metadata": {},
        "spec": {
            "database": {
                "server": "db",
                "port": 3306,
                "credentials": {"username": "backup", "password": password},
            },
            "dump": {"include": ["shop"], "targets": ["here"], "schedule": {"cron": "30 2 * * *"}},
            "targets": {"here": {"type": "file", "url": "file:///srv/\u{1f980}/a"}},
        },
    })
}

/// What the client's file has that says where its configuration is.
fn file(remote: &Remote) -> Vec<u8> {
    let spec = json!({
        "url": remote.url,
        "certificates": remote.certificates,
        "credentials": remote.credentials,
    });
    json!({"version": "config.databack.io/v1", "kind": "remote", "spec": spec}).to_string().into()
}

#[test]
fn each_instance_gets_what_was_encrypted_for_it() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    for algorithm in ["aes256-gcm", "chacha20-poly1305"] {
        let instance = admin.register(&mounted);
        let remote = instance.config(port);
        let none =
            get(&remote.url().unwrap(), &Identity::new(&instance.seed, &remote.certificates));
        let none = none.unwrap();
        assert_eq!(none.status, 404, "{}", none.text());
        assert_eq!(remote.fetch_whole().unwrap_err(), "unknown config type: ");

        let document = document("first");
        admin.configure(&instance, &format!("?encrypt={algorithm}"), &document, 201);
        assert_eq!(remote.fetch_whole().unwrap(), document["spec"]);
        let found = remote.fetch().unwrap();
        assert_eq!((found.kind, &found.spec["algorithm"]), (Kind::Encrypted, &json!(algorithm)));
        let shown = admin.get(&format!("/admin/instances/{}/config", instance.id));
        assert_eq!(shown["spec"], found.spec, "only the encrypted form is kept");

        let changed = self::document("second");
        admin.configure(&instance, &format!("?encrypt={algorithm}"), &changed, 200);
        assert_eq!(remote.fetch_whole().unwrap(), changed["spec"]);
        // The real client's releases cannot read it.
        let error = load(&file(&remote)).unwrap_err();
        assert_eq!(error, "error decrypting config: empty algorithm");

        let other = Remote { credentials: Seed::random().credentials(), ..remote.clone() };
        assert_eq!(other.fetch_whole().unwrap_err(), "unknown config type: ");
    }
    gateway.stop();
}

#[test]
fn certificates_that_have_expired_are_as_good_as_new_ones() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let (one, other) = (admin.register(&mounted), admin.register(&mounted));
    admin.configure(&one, "", &document("x"), 201);
    let pins = [mounted.leaf.clone()];
    let url = one.config(gateway.port()).url().unwrap();
    let started = SystemTime::now() - Duration::from_secs(3600 + 300);
    let expired = Identity::started(&one.seed, &pins, started);
    let early = Identity::started(&one.seed, &pins, SystemTime::now() + Duration::from_secs(7200));
    for identity in [&Identity::new(&one.seed, &pins), &expired, &early] {
        let reply = get(&url, identity).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(Document::parse(&reply.body).unwrap().spec, document("x")["spec"]);
        // What a YAML reader of 2024 takes: one line, and no escapes that it does not know.
        let text = reply.text();
        let body = text.trim_end();
        assert!(!body.contains(['\n', '\t']) && body.contains('\u{1f980}'), "{body}");
        assert!(!body.contains("\\/") && !body.contains("\\u"), "{body}");
    }
    // Nobody else gets it: not with another registered key, not with an unknown one, not without.
    for (identity, status) in [
        (Identity::new(&other.seed, &pins), 404),
        (Identity::new(&Seed::random(), &pins), 401),
        (Identity::none(&pins), 401),
    ] {
        let reply = get(&url, &identity).unwrap();
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.json()["message"].is_string());
    }
    gateway.stop();
}

#[test]
fn the_client_takes_the_gateway_for_what_it_is() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let Mounted { leaf, authority, .. } = &mounted;
    let instance = admin.register(&mounted);
    admin.configure(&instance, "", &document("x"), 201);
    let of = |host: &str, pin: &str, path: &str| {
        let remote = instance.remote(gateway.port(), path);
        Remote {
            url: remote.url.replace("127.0.0.1", host),
            certificates: vec![pin.to_owned()],
            ..remote
        }
    };
    let spec = document("x")["spec"].clone();
    for host in ["127.0.0.1", "localhost"] {
        for pin in [leaf, authority] {
            // Today's path, the one until June 2026, and that of a configuration that has only a host.
            for path in ["/engines/config/{}", "/config/{}", "/"] {
                let found = of(host, pin, path).fetch_whole();
                assert_eq!(found.as_ref(), Ok(&spec), "{host} {path}");
            }
        }
        let other = of(host, &fingerprint(b"another certificate"), "/");
        let error = other.fetch_whole().unwrap_err();
        assert!(error.contains("certificate not trusted"), "{error}");
    }
    gateway.stop();
}

/// What the releases up to 1.5 make of what they fetch. The gateway serves all of it, and does not suffer from those that
/// ask without end.
#[test]
fn the_real_clients_defects_do_no_harm() {
    let limit = "[mount.rate_limit.configurations]\nby = \"principal\"\nrequests = 120\nper = \"1m\"\n\
                 methods = [\"GET\"]\npaths = [\"/engines/config/*\", \"/config/*\", \"/\"]\n";
    let mounted = mounted("", "");
    mounted.setup.write();
    mounted.setup.edit(|text| text + limit);
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    let (one, other) = (admin.register(&mounted), admin.register(&mounted));
    admin.configure(&one, "", &document("x"), 201);
    assert_eq!(load(&file(&one.config(port))), Ok(json!({})), "a fetched one arrives empty");

    let remote = one.config(port);
    let spec = json!({
        "url": remote.url,
        "certificates": remote.certificates,
        "credentials": remote.credentials,
    });
    let lead =
        json!({"version": "config.databack.io/v1", "kind": "remote", "metadata": {}, "spec": spec});
    admin.configure(&one, "", &lead, 200);
    admin.configure(&other, "", &document("y"), 201);
    let error = load(&file(&remote)).unwrap_err();
    assert_eq!(error, "fetches the same configuration again and again");

    let identity = Identity::new(&one.seed, &remote.certificates);
    let url = remote.url().unwrap();
    let mut connection = connect(&url, &identity).unwrap();
    let mut ask = || {
        connection.write(get_head(&url).as_bytes()).unwrap();
        connection.reply("GET").unwrap()
    };
    let refused = (0..1000).map(|_| ask()).find(|reply| reply.status != 200).unwrap();
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.json()["message"].is_string());
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() <= 60);
    let found = other.config(port).fetch_whole();
    assert_eq!(found.as_ref(), Ok(&document("y")["spec"]), "others notice nothing");
    gateway.stop();
}

#[test]
fn what_is_wrong_or_has_not_changed_is_said() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let instance = admin.register(&mounted);
    // Without credentials, the real client crashes.
    let mut incomplete = document("x");
    incomplete["spec"]["telemetry"] = json!({"url": "https://h/x"});
    let path = format!("/admin/instances/{}/config", instance.id);
    let refused = admin.send("PUT", &path, &incomplete.to_string());
    assert_eq!(refused.status, 422, "{}", refused.text());
    let errors = refused.json()["errors"].to_string();
    assert!(errors.contains("telemetry") && errors.contains("path"), "{errors}");
    admin.configure(&instance, "", &document("x"), 201);

    let remote = instance.config(gateway.port());
    let identity = Identity::new(&instance.seed, &remote.certificates);
    let url = remote.url().unwrap();
    let tag = get(&url, &identity).unwrap().header("etag").unwrap().to_owned();
    let same = send("GET", &url, &identity, &[("If-None-Match", &tag)], b"").unwrap();
    assert_eq!((same.status, same.body.len()), (304, 0));
    let stale = send("GET", &url, &identity, &[("If-None-Match", "\"other\"")], b"").unwrap();
    assert_eq!(stale.status, 200);
    let posted = send("POST", &url, &identity, &[], b"{}").unwrap();
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    for (accept, status, media_type) in [
        ("*/*", 200, "application/vnd.databack.config.v1+json"),
        ("application/json", 200, "application/json"),
        ("application/vnd.databack.config.v9+json", 406, "application/json"),
    ] {
        let reply = send("GET", &url, &identity, &[("Accept", accept)], b"").unwrap();
        assert_eq!((reply.status, reply.header("content-type")), (status, Some(media_type)));
    }
    let nowhere = Url { path: format!("{MOUNT}/engines/nothing/here"), ..url };
    assert_eq!(get(&nowhere, &identity).unwrap().status, 404);

    // Revisions: the first one comes back.
    admin.configure(&instance, "", &document("y"), 200);
    let restored = admin.send("POST", &format!("{path}/revisions/1/restore"), "");
    assert_eq!(restored.status, 201, "{}", restored.text());
    assert_eq!(remote.fetch_whole().unwrap(), document("x")["spec"]);
    let revisions = admin.get(&format!("{path}/revisions"));
    assert_eq!(revisions.as_array().unwrap().len(), 3);
    assert!(!revisions.to_string().contains("password"), "{revisions}");
    gateway.stop();
}
