//! Manifests that are too much.

use super::*;

/// Bytes of a manifest beyond any limit.
const HUGE: u64 = 200 << 20;

/// With and without a length, and also where the operator allows so much: then the place of the fault is named.
#[test]
fn a_manifest_of_200_megabytes_is_refused() {
    let gateway = setup("").start();
    let endpoint = gateway.as_user("ann", "annspassword");
    let mut connection = endpoint.connect();
    let length = HUGE.to_string();
    connection.write_head("POST", "/manifests", &[("content-length", &length)]).unwrap();
    let refused = connection.reply("POST").unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (413, &json!("too_large")));
    let mut connection = endpoint.connect();
    let headers = [("transfer-encoding", "chunked")];
    connection.write_head("POST", "/manifests", &headers).unwrap();
    let megabyte = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    // The gateway may refuse and close in the middle.
    for _ in 0..HUGE >> 20 {
        if connection.write(&megabyte).is_err() {
            break;
        }
    }
    let refused = connection.reply("POST").unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (413, &json!("too_large")));
    let memory = gateway.program.memory("VmHWM") >> 20;
    tools::report(&format!("fest, the gateway after manifests of 200 MiB: {memory} MiB"));
    gateway.stop();
}

#[test]
fn a_huge_manifest_that_is_allowed_and_wrong_is_told_the_place() {
    let mount =
        "limits = { memory = \"1GiB\", cpu = \"30s\" }\nsettings = { max_manifest = 314572800 }";
    let setup = Setup::new().user("ann", "annspassword").mount("/", "fest", mount);
    setup.install("fest", &tools::plugin("fest"));
    let gateway = setup.start();
    let endpoint = gateway.as_user("ann", "annspassword");
    let blanks = vec![b'\n'; usize::try_from(HUGE).unwrap()];
    let text = [&b"{\"name\": \"a\","[..], &blanks, b"!}"].concat();
    let refused = endpoint.post("/manifests", &text);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(
        (&refused.json()["error"], &refused.json()["line"]),
        (&json!("bad_json"), &json!(HUGE + 1))
    );
    gateway.stop();
}
