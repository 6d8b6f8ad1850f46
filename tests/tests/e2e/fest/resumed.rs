//! Resumable uploads as the IETF drafts them, over a socket.

use super::*;

/// The client is told where its upload goes on before it sends the bytes, loses its connection, and goes on there.
#[test]
fn a_client_is_told_by_104_where_to_go_on() {
    let gateway = setup("").start();
    let endpoint = gateway.as_user("ann", "annspassword");
    let bytes = Blob::new(4, 1_000_000).bytes();
    let hash = sha256(bytes.as_slice());
    let mut connection = endpoint.connect();
    let headers = [("upload-complete", "?1"), ("content-length", "1000000")];
    connection.write_head("PUT", &format!("/files/{hash}"), &headers).unwrap();
    let told = connection.read_head().unwrap();
    assert_eq!(told.status, 104, "{told:?}");
    let location = told.header("location").unwrap().to_owned();
    assert_eq!(told.header("upload-offset"), Some("0"));
    connection.write(&bytes[..400_000]).unwrap();
    connection.reset();

    let path = location.split_once("//").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    let offset = |gateway: &Gateway| {
        let endpoint = gateway.as_user("ann", "annspassword");
        let reply = endpoint.send("HEAD", path, &[], b"");
        reply.header("upload-offset").and_then(|offset| offset.parse::<usize>().ok())
    };
    gateway.eventually("something has arrived", |gateway| offset(gateway) > Some(0));
    let at = offset(&gateway).unwrap();
    assert!(at <= 400_000, "{at}");
    let (from, headers) = (at.to_string(), "application/partial-upload");
    let headers = [("upload-offset", &*from), ("upload-complete", "?1"), ("content-type", headers)];
    let mut connection = endpoint.connect();
    let length = (bytes.len() - at).to_string();
    let headers = [&headers[..], &[("content-length", &length)]].concat();
    connection.write_head("PATCH", path, &headers).unwrap();
    assert_eq!(connection.read_head().unwrap().status, 104);
    connection.write(&bytes[at..]).unwrap();
    let done = connection.reply("PATCH").unwrap();
    assert_eq!((done.status, done.header("upload-complete")), (204, Some("?1")), "{done:?}");
    let got = endpoint.get(&format!("/files/{hash}"));
    assert!(got.status == 200 && got.body == bytes);
    gateway.stop();
}
