//! Errors point at the place; the example is whole and true.

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

/// The complaint about `MINIMAL` with one text replaced, as printed.
fn complaint(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    parse(&MINIMAL.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn relative_paths_begin_at_the_file() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/keepgate/state"));
    assert_eq!(config.plugin_dir, Path::new("/usr/lib/keepgate/plugins"));
    assert_eq!(config.auth["users"].htpasswd.as_deref(), Some(Path::new("/etc/keepgate/htpasswd")));
    assert_eq!(config.store["main"].path, Path::new("/etc/keepgate/blobs"));
    let socket = MINIMAL.replace("127.0.0.1:8000", "unix:keepgate.sock");
    let config = parse(&socket).unwrap();
    assert_eq!(config.listener[0].address.get_ref(), "unix:/etc/keepgate/keepgate.sock");
}

#[test]
fn complaints_have_file_line_and_column() {
    let said = complaint("auth = [\"users\"]", "auth = [\"users\"]\nappend_onyl = true");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:14:1: unknown field `append_onyl`"),
        "{said}"
    );
    let said = complaint("main = \"main\"", "main = \"mian\"");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:14:19: there is no [store.mian]"),
        "{said}"
    );
    let said = complaint("[\"users\"]", "[\"people\"]");
    assert!(
        said.starts_with("/etc/keepgate/keepgate.toml:13:9: there is no [auth.people]"),
        "{said}"
    );
    let said = complaint("address = ", "address ");
    assert!(said.starts_with("/etc/keepgate/keepgate.toml:5:"), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (from, to, expected) in [
        ("path = \"/\"", "path = \"/restic/\"", "does not end with it"),
        ("path = \"/\"", "path = \"/a/../b\"", "begins with /"),
        ("\"restic\"", "\"restic.wasm\"", "without folder"),
        ("[\"users\"]", "[]", "nobody could come in"),
        ("[\"users\"]", "[\"users\", \"none\"]", "stands alone"),
        ("auth = [\"users\"]\n", "", "missing field `auth`"),
        ("127.0.0.1:8000", "8000", "host:port"),
        (
            "[auth.users]",
            "[[listener]]\naddress = \":1\"\npublic_url = \"x\"\n[auth.users]",
            "https://",
        ),
        ("stores = ", "limits = { cpu = \"0s\" }\nstores = ", "longer than nothing"),
        ("[auth.users]", "[timeouts]\nidle = \"500000000000y\"\n[auth.users]", "hundred years"),
        ("stores = ", "limits = { memory = \"64 parsecs\" }\nstores = ", ""),
        ("main = \"main\"", "main = \"main/../x\"", "\"..\" is not allowed"),
        ("htpasswd = \"htpasswd\"", "header = \"X-User\"\nhtpasswd = \"x\"", "not both"),
        ("htpasswd = \"htpasswd\"", "header = \"a b\"", "header's name"),
        ("htpasswd = \"htpasswd\"", "header = \"X-U\"\nfrom = [\"here\"]", "10.0.0.0/8"),
        ("htpasswd = \"htpasswd\"", "htpasswd = \"x\"\nfrom = [\"::1\"]", "`from` is for"),
        ("stores = ", "rule = [{ policy = { quota = 1 } }]\nstores = ", "write one of them"),
        ("stores = ", "rule = [{ folder = \"*\", policy = {} }]\nstores = ", "is a quota"),
        ("stores = ", "rule = [{ folder = \"/a\", policy = { quota = 1 } }]\nstores = ", "/a"),
        ("stores = ", "policy = { quota = \"1 XB\" }\nstores = ", ""),
        ("[auth.users]", "[metrics]\npath = \"/\"\nauth = [\"none\"]\n[auth.users]", "already"),
        ("[auth.users]", "[metrics]\npath = \"/m\"\nauth = [\"x\"]\n[auth.users]", "[auth.x]"),
        ("stores = ", "limits = { calls = 0 }\nstores = ", "serves nothing"),
        ("stores = ", "policy = { append_only = true, except = [\"[\"] }\nstores = ", "policy"),
        ("[auth.users]", "[admin]\naddress = \"0.0.0.0:9090\"\n[auth.users]", "no password"),
        ("stores = ", "etcd = { main = \"x\" }\nstores = ", "there is no [etcd.x]; there is none"),
    ] {
        let said = complaint(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let twice = format!("{MINIMAL}[[mount]]\npath = \"/\"\nplugin = \"x\"\nauth = [\"none\"]\n");
    assert!(parse(&twice).unwrap_err().to_string().contains("has this path already"));
}

#[test]
fn clusters_and_schedules_that_make_no_sense_are_refused() {
    let schedule = "[schedule.x]\nmount = \"/\"\njob = \"backup\"\n";
    for (added, expected) in [
        ("[etcd.a]\nendpoints = []", "has no endpoints"),
        ("[etcd.a]\nendpoints = [\"x\"]\nuser = \"u\"", "without `password`"),
        ("[etcd.a]\nendpoints = [\"x\"]\npassword = \"u\"", "without `user`"),
        ("[etcd.a]\nendpoints = [\"x\"]\nuser = \"u\"\nuser_file = \"f\"", "keep one of them"),
        ("[etcd.a]\nendpoints = [\"x\"]\ntls = { cert = \"f\" }", "unknown field `cert`"),
        ("[jobs]\nat_once = 0", "let no job run"),
        ("@", "`cron` or `every`"),
        ("@cron = \"0 * * * *\"\nevery = \"1h\"", "write one of them"),
        ("@cron = \"0 25 * * *\"", "25"),
        ("@cron = \"0 2 * * *\"\ntime_zone = \"Europe/Nowhere\"", "Europe/Nowhere"),
        ("@cron = \"0 2 * * *\"\njitter = \"1m\"", "`jitter` is for `every`"),
        ("@every = \"1h\"\ntime_zone = \"UTC\"", "`time_zone` is for `cron`"),
        ("@every = \"1h\"\nattempts = 0", "one attempt at least"),
        ("@every = \"1h\"\nmissed = \"later\"", "unknown variant `later`"),
        ("@every = \"1h\"\n[jobs]\nenabled = false", "needs jobs"),
    ] {
        let added = added.replacen('@', schedule, 1);
        let said = parse(&format!("{MINIMAL}{added}\n")).unwrap_err().to_string();
        assert!(said.contains(expected), "{added}: {said}");
    }
    let elsewhere = schedule.replace("\"/\"", "\"/other\"");
    let said = parse(&format!("{MINIMAL}{elsewhere}every = \"1h\"\n")).unwrap_err().to_string();
    assert!(said.contains("there is no mount /other"), "{said}");
    assert!(parse(&format!("{MINIMAL}{schedule}every = \"1h\"\n")).is_ok());
}

#[test]
fn rules_of_trust_that_make_no_sense_are_refused() {
    for (added, expected) in [
        ("", ":16:1: no plugin could be loaded"),
        ("allow = []\nkeys = []", ":16:1: no plugin could be loaded"),
        ("allow = [\"abc\"]", ":17:10: \"abc\" is not a digest"),
        ("keys = [\"RW\"]", ":17:9: \"RW\" is not a minisign public key"),
        ("key = [\"RW\"]", ":17:1: unknown field `key`"),
    ] {
        let said = parse(&format!("{MINIMAL}\n[plugins]\n{added}\n")).unwrap_err().to_string();
        assert!(said.contains(expected), "{added}: {said}");
    }
    let config = parse(&format!("{MINIMAL}\n[plugins]\nkeys_file = \"trusted.pub\"\n")).unwrap();
    let file = config.plugins.unwrap().into_inner().keys_file;
    assert_eq!(file.as_deref(), Some(Path::new("/etc/keepgate/trusted.pub")));
}

#[test]
fn secrets_are_in_no_text_of_the_configuration() {
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

/// The example parses as it stands, parses with every line that is commented out switched on, and
/// then names every key that there is.
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
        ("store.main", "[store.main]", ""),
        ("etcd.*", "[etcd.main]", ""),
        ("etcd.main.tls", "[etcd.main]\nendpoints = []\n[etcd.main.tls]", ""),
        ("jobs", "[jobs]", ""),
        ("schedule.*", "[schedule.x]", ""),
        ("mount", "[[mount]]", ""),
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

/// The keys that a table may have, by serde's complaint about one that it may not.
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

/// The keys that a value has at a path; of an array of tables, those of all of them.
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
