//! Errors have the right places; the example is complete and valid.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const MINIMAL: &str = r#"
data_dir = "state"
plugin_dir = "/usr/lib/keepgate/plugins"
[[listener]]
address = "127.0.0.1:8000"
[auth.users]
htpasswd = "htpasswd"
[store.main]
path = "blobs"
[[mount]]
path = "/"
plugin = "restic"
auth = ["users"]
stores = { main = "main" }
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/keepgate/keepgate.toml"))
}

/// The error for `MINIMAL` with one text replaced, as printed.
fn error(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    parse(&MINIMAL.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/keepgate/state"));
    assert_eq!(config.plugin_dir, Path::new("/usr/lib/keepgate/plugins"));
    assert_eq!(
        config.auth["users"].get_ref().htpasswd.as_deref(),
        Some(Path::new("/etc/keepgate/htpasswd"))
    );
    let store = config.store["main"].get_ref();
    assert_eq!(store.path.as_deref(), Some(Path::new("/etc/keepgate/blobs")));
    let socket = MINIMAL.replace("127.0.0.1:8000", "unix:keepgate.sock");
    let config = parse(&socket).unwrap();
    assert_eq!(config.listener[0].address.get_ref(), "unix:/etc/keepgate/keepgate.sock");
}

#[test]
fn errors_have_file_line_and_column() {
    let said = error("auth = [\"users\"]", "auth = [\"users\"]\nappend_onyl = true");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:14:1: unknown field `append_onyl`"),
        "{said}"
    );
    let said = error("main = \"main\"", "main = \"mian\"");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:14:19: mount \"/\": unknown store \"mian\"; configured stores: main"),
        "{said}"
    );
    let said = error("[\"users\"]", "[\"people\"]");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:13:9: mount \"/\": unknown auth \"people\"; configured methods: users"),
        "{said}"
    );
    let said = error("address = ", "address ");
    assert!(said.starts_with("/etc/keepgate/keepgate.toml:5:"), "{said}");
}

#[test]
fn inconsistent_values_are_rejected() {
    for (from, to, expected) in [
        ("path = \"/\"", "path = \"/restic/\"", "does not end with it"),
        ("path = \"/\"", "path = \"/a/../b\"", "begins with /"),
        ("\"restic\"", "\"restic.wasm\"", "without folder"),
        ("[\"users\"]", "[]", "nobody has access"),
        ("[\"users\"]", "[\"users\", \"none\"]", "gives access to everybody"),
        ("auth = [\"users\"]\n", "", "missing field `auth`"),
        ("127.0.0.1:8000", "8000", "host:port"),
        (
            "[auth.users]",
            "[[listener]]\naddress = \":1\"\npublic_url = \"x\"\n[auth.users]",
            "https://",
        ),
        ("stores = ", "limits = { cpu = \"0s\" }\nstores = ", "longer than zero"),
        ("[auth.users]", "[timeouts]\nidle = \"500000000000y\"\n[auth.users]", "100 years"),
        ("stores = ", "limits = { memory = \"64 parsecs\" }\nstores = ", ""),
        ("main = \"main\"", "main = \"main/../x\"", "\"..\" is not allowed"),
        (
            "htpasswd = \"htpasswd\"",
            "header = \"X-User\"\nhtpasswd = \"x\"",
            "either `htpasswd`, or `header`, or",
        ),
        ("htpasswd = \"htpasswd\"", "header = \"a b\"", "write the name of a header"),
        ("htpasswd = \"htpasswd\"", "header = \"X-U\"\nfrom = [\"here\"]", "10.0.0.0/8"),
        ("htpasswd = \"htpasswd\"", "htpasswd = \"x\"\nfrom = [\"::1\"]", "`from` applies only to"),
        (
            "stores = ",
            "rule = [{ policy = { quota = 1 } }]\nstores = ",
            "either `user` or `folder`",
        ),
        ("stores = ", "rule = [{ folder = \"*\", policy = {} }]\nstores = ", "is a `quota`"),
        ("stores = ", "rule = [{ folder = \"/a\", policy = { quota = 1 } }]\nstores = ", "/a"),
        ("stores = ", "policy = { quota = \"1 XB\" }\nstores = ", ""),
        ("[auth.users]", "[metrics]\npath = \"/\"\nauth = [\"none\"]\n[auth.users]", "already"),
        (
            "[auth.users]",
            "[metrics]\npath = \"/m\"\nauth = [\"x\"]\n[auth.users]",
            "unknown auth \"x\"",
        ),
        ("stores = ", "limits = { calls = 0 }\nstores = ", "no request is served"),
        ("stores = ", "policy = { append_only = true, except = [\"[\"] }\nstores = ", "policy"),
        ("[auth.users]", "[admin]\naddress = \"0.0.0.0:9090\"\n[auth.users]", "no password"),
        (
            "stores = ",
            "etcd = { main = \"x\" }\nstores = ",
            "unknown etcd cluster \"x\"; configured clusters: none",
        ),
        (
            "stores = ",
            "upstreams = { lxd = \"x\" }\nstores = ",
            "unknown upstream \"x\"; configured upstreams: none",
        ),
    ] {
        let said = error(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let twice = format!("{MINIMAL}[[mount]]\npath = \"/\"\nplugin = \"x\"\nauth = [\"none\"]\n");
    assert!(parse(&twice).unwrap_err().to_string().contains("another mount has the same path"));
}

#[test]
fn ways_in_are_one_of_three_kinds() {
    let of = |auth: &str| parse(&MINIMAL.replacen("htpasswd = \"htpasswd\"", auth, 1));
    for (auth, expected) in [
        ("any_key = false", ":6:1: [auth.users] needs either"),
        ("client_ca = []", "[auth.users] needs either"),
        ("any_key = true\nhtpasswd = \"x\"", "[auth.users] needs either"),
        ("fingerprints = \"x\"\nheader = \"X-User\"", "[auth.users] needs either"),
        ("any_key = true\nfrom = [\"::1\"]", "`from` applies only to `header`"),
        ("client_ca = \"ca.pem\"", "invalid type"),
        (
            "any_key = true",
            ":11:8: mount \"/\": nobody can get in, because no listener has TLS and `auth` accepts nothing but",
        ),
    ] {
        let said = of(auth).unwrap_err().to_string();
        assert!(said.contains(expected), "{auth}: {said}");
    }
    let asks = |text: &str| parse(text).unwrap().asks_for_certificates();
    assert!(!asks(MINIMAL));
    // Where a password is enough too, a listener without TLS is of use.
    let both =
        format!("{MINIMAL}[auth.clients]\nclient_ca = [\"ca.pem\"]\nfingerprints = \"list\"\n");
    assert!(!asks(&both), "no mount uses them");
    let both = both.replace("auth = [\"users\"]", "auth = [\"users\", \"clients\"]");
    assert!(asks(&both));
    let config = parse(&both).unwrap();
    assert_eq!(config.unreachable(), [""; 0]);
    let auth = config.auth["clients"].get_ref();
    assert_eq!(auth.client_ca, [Path::new("/etc/keepgate/ca.pem")]);
    assert_eq!(auth.fingerprints.as_deref(), Some(Path::new("/etc/keepgate/list")));
    let tls = "[[listener]]\naddress = \":2\"\ntls = { certificate = \"c\", key = \"k\" }\n";
    let only = both.replace("\"users\", ", "") + tls;
    let said = parse(&only).unwrap().unreachable();
    assert_eq!(
        said,
        [
            "listener 127.0.0.1:8000 has no TLS, so nobody can present a certificate there or use mount \"/\""
        ]
    );
}

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

/// Places and messages of all problems of a text.
fn problems(text: &str) -> Vec<(usize, usize, String)> {
    let Err(ConfigError::Invalid { problems }) = parse(text) else { panic!("{text}") };
    problems.into_iter().map(|one| (one.line, one.column, one.message)).collect()
}

#[track_caller]
fn assert_problems(text: &str, expected: &[(usize, usize, &str)]) {
    let found = problems(text);
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            (found.0, found.1) == (expected.0, expected.1) && found.2.starts_with(expected.2)
        });
    assert!(matches, "{found:#?}");
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let text = r#"
data_dir = "state"
plugin_dir = "plugins"
[[listener]]
address = "8000"
[auth.users]
[store.main]
path = "blobs"
[[mount]]
path = "/x/"
plugin = "restic"
auth = ["user"]
stores = { main = "mian" }
append_onyl = true
[[mount]]
path = "/y"
plugin = "restic"
auth = []
paht = "/z"
[jobs]
at_once = 0
"#;
    assert_problems(
        text,
        &[
            (5, 11, "address: "),
            (6, 1, "[auth.users] needs either"),
            (10, 8, "path \"/x/\": "),
            (12, 9, "mount \"/x/\": unknown auth \"user\"; configured methods: users"),
            (13, 19, "mount \"/x/\": unknown store \"mian\"; configured stores: main"),
            (14, 1, "unknown field `append_onyl`"),
            (16, 8, "mount \"/y\": `auth` is empty"),
            (19, 1, "unknown field `paht`"),
            (21, 11, "[jobs] at_once must be"),
        ],
    );
}

#[test]
fn each_value_of_a_wrong_type_is_reported_and_not_called_missing() {
    let text = r#"
data_dir = 1
plugin_dir = "plugins"
[[listener]]
address = 8000
[[mount]]
path = "/x"
auth = ["users", 1]
limits = { cpu = "0s", memory = "64MiB", calls = "x", cup = 1 }
[mount.policy]
append_only = "yes"
[[mount]]
plugin = "etcd"
auth = "users"
[store.main]
path = "blobs"
quota = "1 XB"
[auth.users]
htpasswd = "htpasswd"
"#;
    assert_problems(
        text,
        &[
            (2, 12, "data_dir: invalid type"),
            (5, 11, "listener.address: invalid type"),
            (6, 1, "mount: missing field `plugin`"),
            (8, 18, "mount.auth: invalid type"),
            (9, 18, "mount.limits.cpu: "),
            (9, 50, "mount.limits.calls: invalid type"),
            (9, 55, "unknown field `cup`"),
            (11, 15, "mount.policy.append_only: invalid type"),
            (12, 1, "mount: missing field `path`"),
            (14, 8, "mount.auth: invalid type"),
            (17, 9, "store.main.quota: "),
        ],
    );
}

#[test]
fn all_syntax_errors_are_reported() {
    let found = problems("data_dir = \nplugin_dir = \"plugins\"\n[[listener]\naddress = \":1\"\n");
    let lines: Vec<_> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [1, 3], "{found:?}");
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

#[test]
fn debug_output_contains_no_secrets() {
    let added = "[etcd.a]\nendpoints = [\"http://x:1\"]\nuser = \"u\"\npassword = \"geheim\"\n";
    let config = parse(&format!("{MINIMAL}{added}")).unwrap();
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn units_are_read() {
    let text = MINIMAL.replace(
        "stores = ",
        "limits = { memory = \"64MiB\", cpu = \"500ms\", time = \"1h 30m\", calls = 8, \
         faults = 3, max_pause = \"1m\" }\nstores = ",
    );
    let limits = parse(&text).unwrap().mount[0].limits.to_runtime();
    assert_eq!(limits.memory, 64 << 20);
    assert_eq!(limits.cpu, Duration::from_millis(500));
    assert_eq!(limits.time, Duration::from_secs(5400));
    assert_eq!(limits.calls, 8);
    assert_eq!((limits.faults.count, limits.faults.longest), (3, Duration::from_secs(60)));
}

/// The example is valid, stays valid if every commented-out line is activated, and then contains every
/// key.
#[test]
fn the_example_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keepgate.toml");
    let example = std::fs::read_to_string(path).unwrap();
    parse(&example).unwrap();
    let full: String = example
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    parse(&full).unwrap();
    let value: toml::Table = full.parse().unwrap();
    let tables = [
        ("", "", "Config"),
        ("plugins", "[plugins]", ""),
        ("listener", "[[listener]]", ""),
        ("listener.tls", "[[listener]]\naddress = \":1\"\n[listener.tls]", ""),
        ("admin", "[admin]", ""),
        ("metrics", "[metrics]", ""),
        ("log", "[log]", ""),
        ("timeouts", "[timeouts]", ""),
        ("auth.*", "[auth.users]", ""),
        ("store.*", "[store.main]", ""),
        ("store.*.s3", "[store.cloud]\n[store.cloud.s3]", ""),
        ("store.cloud.s3.lock", "[store.cloud]\n[store.cloud.s3]\n[store.cloud.s3.lock]", ""),
        ("etcd.*", "[etcd.main]", ""),
        ("etcd.main.tls", "[etcd.main]\nendpoints = []\n[etcd.main.tls]", ""),
        ("upstream.*", "[upstream.lxd]", ""),
        ("upstream.*.tls", "[upstream.lxd]\n[upstream.lxd.tls]", ""),
        ("upstream.*.addresses", "[upstream.x]\n[[upstream.x.addresses]]\nurl = \"\"", ""),
        ("jobs", "[jobs]", ""),
        ("schedule.*", "[schedule.x]", ""),
        ("copy.*", "[copy.x]", ""),
        ("mount", "[[mount]]", ""),
        ("mount.secrets", "[[mount]]\n[mount.secrets]", ""),
        ("mount.secrets.seal", "[[mount]]\n[mount.secrets.seal]", ""),
        ("mount.policy", "[[mount]]\n[mount.policy]", ""),
        ("mount.rule", "[[mount]]\n[[mount.rule]]", ""),
        ("mount.limits", "[[mount]]\n[mount.limits]", ""),
        ("auto_mount", "[auto_mount]", ""),
    ];
    for (table, header, _) in tables {
        let named = keys(&toml::Value::Table(value.clone()), table);
        let known = expected_keys(header);
        assert!(!known.is_empty(), "{table}");
        let missing: Vec<_> = known.difference(&named).collect();
        assert!(
            missing.is_empty(),
            "examples/keepgate.toml does not show {missing:?} of [{table}]"
        );
    }
}

/// The keys that a table may have, taken from serde's error for an unknown one.
fn expected_keys(header: &str) -> BTreeSet<String> {
    let text = if header.is_empty() {
        "no_such_key = 1\n".to_owned()
    } else {
        format!("data_dir = \"\"\nplugin_dir = \"\"\n{header}\nno_such_key = 1\n")
    };
    let said = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();
    let (_, expected) = said.split_once("expected").unwrap_or_else(|| panic!("{header}: {said}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of the table at a path; for an array of tables, the keys of all of them.
fn keys(value: &toml::Value, path: &str) -> BTreeSet<String> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match value {
        toml::Value::Array(values) => values.iter().flat_map(|value| keys(value, path)).collect(),
        toml::Value::Table(table) if first.is_empty() => table.keys().cloned().collect(),
        toml::Value::Table(table) if first == "*" => {
            table.values().flat_map(|value| keys(value, rest)).collect()
        }
        toml::Value::Table(table) => {
            table.get(first).map(|value| keys(value, rest)).unwrap_or_default()
        }
        _ => BTreeSet::new(),
    }
}
