//! The pages, as text: what is on them, that it is escaped, and who sees it.

use super::keys::key_pair;
use super::*;

/// A page for the administrator `ann`.
fn page(host: &Host, path: &str) -> String {
    let reply = ann(host.get(path));
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    reply.text()
}

fn named(host: &Host, number: u8, name: &str, account: &str) -> String {
    let body = json!({"publicKey": key_pair(number).1, "name": name, "account": account});
    register(host, &body)["id"].as_str().unwrap().to_owned()
}

#[test]
fn instances_are_listed_in_pages_and_by_account() {
    let host = host();
    assert!(page(&host, "/ui/").contains("There is no instance here yet"));
    named(&host, 1, "shop <b>", "acme");
    named(&host, 2, "wiki", "other");
    let all = page(&host, "/ui/");
    assert!(
        all.contains("shop &lt;b&gt;") && all.contains("wiki") && all.contains("never"),
        "{all}"
    );
    let one = page(&host, "/ui/?account=other");
    assert!(!one.contains("shop") && one.contains("wiki"));
    let eve = send(host.get("/ui/").user("eve")).text();
    assert!(eve.contains("shop") && !eve.contains("wiki"));
    let nobody = send(host.get("/ui/"));
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Basic"));
    let folder = ann(host.get("/ui"));
    assert_eq!((folder.status, folder.header("location")), (308, Some("http://localhost/ui/")));
    for (path, media_type) in [
        ("/ui/keepgate.css", "text/css; charset=utf-8"),
        ("/ui/follow.js", "text/javascript; charset=utf-8"),
    ] {
        assert_eq!(ann(host.get(path)).header("content-type"), Some(media_type));
    }
}

#[test]
fn an_instance_has_its_configuration_with_what_was_changed_but_no_secret() {
    let host = host();
    let id = named(&host, 1, "shop", "");
    let path = format!("/ui/instances/{id}");
    assert!(page(&host, &path).contains("No run has been reported yet"));
    assert_eq!(ann(host.get(&format!("{path}/config"))).status, 404);
    for server in ["db1", "db2"] {
        let document = json!({"version": "config.databack.io/v1", "kind": "local", "spec": {
            "database": {"server": server, "credentials": {"username": "u", "password": "hunter2"}},
        }});
        let put = host.request("PUT", &format!("/admin/instances/{id}/config"));
        assert!(ann(put.body(document.to_string().as_bytes())).status < 300);
    }
    assert!(page(&host, &path).contains("Revision 2"));
    let current = page(&host, &format!("{path}/config"));
    assert!(current.contains("db2") && !current.contains("db1") && !current.contains("hunter2"));
    let changed = page(&host, &format!("{path}/config?revision=2&since=1"));
    assert!(
        changed.contains("<span class=\"removed\">-       &quot;server&quot;: &quot;db1&quot;"),
        "{changed}"
    );
    assert!(!changed.contains("hunter2"));
    assert_eq!(ann(host.get(&format!("{path}/config?revision=7"))).status, 404);
    assert_eq!(send(host.get(&path).user("eve")).status, 404);
}

#[test]
fn browsers_are_shown_to_the_pages_and_do_nothing_for_other_sites() {
    let host = host();
    let root = |accept| send(host.get("/").header("accept", accept));
    let page = root("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    assert_eq!((page.status, page.header("location")), (302, Some("http://localhost/ui/")));
    assert_eq!((root("*/*").status, root("application/json").status), (401, 401));
    let body = json!({"publicKey": key_pair(1).1}).to_string();
    let from = |site| {
        ann(host.post("/admin/instances", body.as_bytes()).header("sec-fetch-site", site)).status
    };
    assert_eq!((from("cross-site"), from("same-site"), from("same-origin")), (403, 403, 201));
}
