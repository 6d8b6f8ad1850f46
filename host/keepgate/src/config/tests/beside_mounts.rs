//! The rules of what stands beside mounts: clusters, upstreams, schedules, copies, trust and stores.

use std::path::Path;

use super::*;

#[test]
fn inconsistent_clusters_and_schedules_are_rejected() {
    let schedule = "[schedule.x]\nmount = \"/\"\njob = \"backup\"\n";
    for (added, expected) in [
        ("[etcd.a]\nendpoints = []", "has no endpoints"),
        ("[etcd.a]\nendpoints = [\"x\"]\nuser = \"u\"", "no `password`"),
        ("[etcd.a]\nendpoints = [\"x\"]\npassword = \"u\"", "no `user`"),
        ("[etcd.a]\nendpoints = [\"x\"]\nuser = \"u\"\nuser_file = \"f\"", "keep one of them"),
        ("[etcd.a]\nendpoints = [\"x\"]\ntls = { cert = \"f\" }", "unknown field `cert`"),
        ("[upstream.a]\n", "has no `url`"),
        ("[upstream.a]\nurl = \"https://h\"\naddresses = []", "both `url` and `addresses`"),
        ("[upstream.a]\nurl = \"https://u:p@h\"", "[upstream.a] url: contains credentials"),
        ("[upstream.a]\nurl = \"https://h\"\npaths = [\"/a/../b\"]", "path \"/a/../b\""),
        ("[upstream.a]\nurl = \"https://h\"\nmethods = [\"get\"]", "such as \"GET\""),
        ("[upstream.a]\nurl = \"https://h\"\nuser = \"u\"", "no `password_file`"),
        ("[upstream.a]\nurl = \"https://h\"\nrequests = 0", "requests: expected at least 1"),
        ("[upstream.a]\nurl = \"https://h\"\ntls = { key = \"k\" }", "no `certificate`"),
        ("[upstream.a]\nurl = \"https://h\"\ntls = { fingerprint = \"k\" }", "64 digits"),
        ("[upstream.a]\nurl = \"http://h\"\ntls = { ca = \"c\" }", "not https://"),
        ("[upstream.a]\nurl = \"unix:/x\"\ntls = { ca = \"c\" }", "not https://"),
        ("[upstream.a]\nurl = \"ftp://h\"", "expected http:// or https://"),
        ("[upstream.a]\naddresses = [{ url = \"h\" }]", "expected http:// or https://"),
        ("[upstream.a]\naddresses = []\ncheck = \"/\"", "nothing to check"),
        ("[upstream.a]\nurl = \"https://h\"\nheader_files = { host = \"f\" }", "by the gateway"),
        ("[jobs]\nat_once = 0", "at_once must be at least 1"),
        ("@", "either `cron` or `every`"),
        ("@cron = \"0 * * * *\"\nevery = \"1h\"", "either `cron` or `every`"),
        ("@cron = \"0 25 * * *\"", "25"),
        ("@cron = \"0 2 * * *\"\ntime_zone = \"Europe/Nowhere\"", "Europe/Nowhere"),
        ("@cron = \"0 2 * * *\"\njitter = \"1m\"", "`jitter` applies only to `every`"),
        ("@every = \"1h\"\ntime_zone = \"UTC\"", "`time_zone` applies only to `cron`"),
        ("@every = \"1h\"\nattempts = 0", "attempts must be at least 1"),
        ("@every = \"1h\"\nmissed = \"later\"", "unknown variant `later`"),
        ("@every = \"1h\"\n[jobs]\nenabled = false", "needs jobs"),
    ] {
        let added = match added.strip_prefix('@') {
            Some(times) => format!("{schedule}{times}"),
            None => added.to_owned(),
        };
        let said = parse(&format!("{MINIMAL}{added}\n")).unwrap_err().to_string();
        assert!(said.contains(expected), "{added}: {said}");
    }
    let elsewhere = schedule.replace("\"/\"", "\"/other\"");
    let said = parse(&format!("{MINIMAL}{elsewhere}every = \"1h\"\n")).unwrap_err().to_string();
    assert!(said.contains("unknown mount \"/other\"; configured mounts: /"), "{said}");
    assert!(parse(&format!("{MINIMAL}{schedule}every = \"1h\"\n")).is_ok());
}

#[test]
fn inconsistent_copies_are_rejected() {
    let copy = "[store.second]\npath = \"second\"\n[store.inside]\npath = \"blobs/./x\"\n\
                [copy.x]\nfrom = \"main\"\nto = \"second\"\n";
    for (from, to, expected) in [
        (
            "\"main\"",
            "\"mian\"",
            "[copy.x]: unknown store \"mian\"; configured stores: inside, main, second",
        ),
        ("to = \"second\"", "to = \"secnd\"", "unknown store \"secnd\""),
        ("to = \"second\"", "to = \"main\"", "is the same folder"),
        ("to = \"second\"", "to = \"main/a\"", "inside the other"),
        ("to = \"second\"", "to = \"inside/y\"", "inside the other"),
        ("from = \"main\"", "from = \"second/a/b\"", "inside the other"),
        ("to = \"second\"", "to = \"second/..\"", "\"..\" is not allowed"),
        ("every = \"1h\"\n", "", "either `cron` or `every`"),
        ("every", "jitter = \"1m\"\ncron = \"0 4 * * *\"\n#", "`jitter` applies only to `every`"),
        ("every", "bandwidth = 0\nevery", "more than zero"),
        ("every", "parallel = 0\nevery", "between 1 and 256"),
        ("every", "order = [\"a/b\"]\nevery", "\"a/b\" is not the name"),
        ("every", "delete_after = \"30d\"\nmax_missing = 50.0\nevery", "between 0.0 and 1.0"),
        ("every", "max_missing = 0.1\nevery", "only to `delete_after`"),
        ("every", "schedule = \"x\"\nevery", "unknown field `schedule`"),
        ("[copy.x]", "[jobs]\nenabled = false\n[copy.x]", "needs jobs"),
        (
            "[copy.x]",
            "[schedule.\"copy x\"]\nmount = \"/\"\njob = \"a\"\nevery = \"1h\"\n[copy.x]",
            "rename one of the two",
        ),
    ] {
        let added = format!("{copy}every = \"1h\"\n");
        assert!(added.contains(from), "{from}");
        let text = format!("{MINIMAL}{}", added.replacen(from, to, 1));
        let said = parse(&text).unwrap_err().to_string();
        assert!(said.contains(expected), "{to}: {said}");
    }
    for good in ["", "to = \"main\"\n", "order = []\ndelete_after = \"30d\"\nmax_missing = 1.0\n"] {
        let copy = match good.starts_with("to") {
            true => copy
                .replace("from = \"main\"\nto = \"second\"", "from = \"main/a\"\nto = \"main/b\""),
            false => format!("{copy}{good}"),
        };
        parse(&format!("{MINIMAL}{copy}every = \"1h\"\n")).unwrap();
    }
}

#[test]
fn inconsistent_rules_of_trust_are_rejected() {
    for (added, expected) in [
        ("", ":16:1: [plugins] trusts no plugin"),
        ("allow = []\nkeys = []", ":16:1: [plugins] trusts no plugin"),
        ("allow = [\"abc\"]", ":17:10: [plugins] allow: \"abc\" is not a digest"),
        ("keys = [\"RW\"]", ":17:9: [plugins] keys: \"RW\" is not a minisign public key"),
        ("key = [\"RW\"]", ":17:1: unknown field `key`"),
    ] {
        let said = parse(&format!("{MINIMAL}\n[plugins]\n{added}\n")).unwrap_err().to_string();
        assert!(said.contains(expected), "{added}: {said}");
    }
    let of = |added: &str| parse(&format!("{MINIMAL}\n[plugins]\n{added}\n"));
    let config = of("keys_file = \"trusted.pub\"").unwrap();
    let file = config.plugins.unwrap().into_inner().keys_file;
    assert_eq!(file.as_deref(), Some(Path::new("/etc/keepgate/trusted.pub")));
    let config = of("only = [\"restic\", \"other\"]").unwrap();
    assert_eq!(config.only_plugins().unwrap().len(), 2);
    let said = of("only = [\"other\"]").unwrap_err().to_string();
    assert!(said.contains("the plugin \"restic\" is not loaded; add it to `only`"), "{said}");
}

#[test]
fn inconsistent_stores_are_rejected() {
    for (place, expected) in [
        ("quota = 1", ":8:1: [store.main] has no place for blobs"),
        ("path = \"a\"\ns3 = { bucket = \"b\" }", "has both `path` and `s3`"),
        ("s3 = { bucket = \"\" }", "expected the name of a bucket"),
        ("s3 = { bucket = \"b\", prefix = \"../x\" }", "the prefix"),
        ("s3 = { bucket = \"b\", endpoint = \"example.com\" }", "expected an endpoint such as"),
        ("s3 = { bucket = \"b\", proxy = \"http://\" }", "expected a proxy such as"),
        ("s3 = { bucket = \"b\", key_id_file = \"x\" }", "needs `secret_file`"),
        ("s3 = { bucket = \"b\", secret_file = \"x\" }", "needs `key_id_file` and `secret_file`"),
        ("s3 = { bucket = \"b\", part_size = \"1MiB\" }", "too small"),
        ("s3 = { bucket = \"b\", memory = \"8MiB\" }", "too few"),
        ("s3 = { bucket = \"b\", requests = 0 }", "requests must be at least 1"),
        ("s3 = { bucket = \"b\", delete = \"all\" }", "unknown variant `all`"),
        (
            "s3 = { bucket = \"b\", lock = { mode = \"legal\", for = \"1d\" } }",
            "unknown variant `legal`",
        ),
        ("s3 = { buket = \"b\" }", "unknown field `buket`"),
        (
            "follow_symlinks = true\ns3 = { bucket = \"b\" }",
            "`follow_symlinks` applies only to a folder",
        ),
    ] {
        let said = error("path = \"blobs\"", place);
        assert!(said.contains(expected), "{place}: {said}");
    }
    let text = MINIMAL.replace("path = \"blobs\"", "s3 = { bucket = \"b\", ca = \"ca.pem\" }");
    let config = parse(&text).unwrap();
    let bucket = config.store["main"].get_ref().s3.as_ref().unwrap().get_ref();
    assert_eq!(bucket.ca.as_deref(), Some(Path::new("/etc/keepgate/ca.pem")));
}
