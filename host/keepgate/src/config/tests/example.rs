//! The example of a configuration is complete and valid.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

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
        ("mount.rate_limit.*", "[[mount]]\n[mount.rate_limit.x]", ""),
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
