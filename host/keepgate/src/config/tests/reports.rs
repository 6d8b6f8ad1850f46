//! Every problem of a file is reported, once and at its place.

use super::*;

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
