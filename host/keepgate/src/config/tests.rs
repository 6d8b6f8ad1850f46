//! Errors have the right places, and mounts, listeners and ways in obey their rules.

mod bearer;
mod beside_mounts;
mod cors;
mod example;
mod rate_limit;
mod reports;

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
            "either `htpasswd`, or `header`, or `issuer`, or",
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
fn only_a_mount_lets_its_plugin_judge_credentials() {
    for good in ["[\"plugin\"]", "[\"users\", \"plugin\"]"] {
        parse(&MINIMAL.replacen("[\"users\"]", good, 1)).unwrap();
    }
    for (from, to, expected) in [
        (
            "[auth.users]",
            "[auth.plugin]\nhtpasswd = \"x\"\n[auth.users]",
            "[auth.plugin] cannot be used",
        ),
        (
            "[auth.users]",
            "[auth.none]\nhtpasswd = \"x\"\n[auth.users]",
            "[auth.none] cannot be used",
        ),
        (
            "[auth.users]",
            "[metrics]\npath = \"/m\"\nauth = [\"plugin\"]\n[auth.users]",
            "[metrics]: auth \"plugin\" is only for a [[mount]]",
        ),
    ] {
        let said = parse(&MINIMAL.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(said.contains(expected), "{to}: {said}");
    }
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
