//! A service of `wasi:http` at a mount: what it sees, what it is refused, and how its bytes flow.

use bytes::Bytes;
use keepgate_store::BodyError;
use tokio::sync::mpsc;

use super::*;

async fn service(bench: &mut Bench, settings: serde_json::Value) -> Arc<Mount> {
    bench.put("service.wasm", &guest("service"));
    let spec = spec("/app", "service", |spec| {
        drop(with_store(spec));
        spec.settings = settings.as_object().unwrap().clone();
    });
    bench.generation(&[spec]).await.mounts[0].clone()
}

#[tokio::test]
async fn a_service_sees_its_request_and_its_settings() {
    let mut bench = Bench::new();
    let mount = service(&mut bench, json!({"GREETING": "hello", "COUNT": 3})).await;
    let mut asked = request("PUT", "/hello/a b/", b"");
    asked.base = "https://x.example:8443/backup/app".to_owned();
    asked.query = vec![("x".to_owned(), "1 2".to_owned())];
    asked.headers = vec![
        ("accept".to_owned(), "text/plain".to_owned()),
        ("x-forwarded-user".to_owned(), "root".to_owned()),
    ];
    let reply = mount.call(asked).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(
        text(reply).await,
        "Method::Put /hello/a%20b/?x=1+2 at Some(Scheme::Https) Some(\"x.example:8443\") \
         prefix=Some(\"/backup/app\") user=Some(\"ann\") \
         accept=Some(\"text/plain\") environment=[(\"COUNT\", \"3\"), (\"GREETING\", \"hello\")]"
    );
    let status = &bench.loader.build(&[]).await.status()["plugins"][0];
    assert_eq!(status["contract"], "wasi:http@0.2.12");
    assert_eq!(status["description"]["summary"], "a service of wasi:http@0.2.12");
    assert!(mount.check_job("backup", b"{}").await.unwrap().unwrap_err().contains("runs no job"));
}

#[tokio::test]
async fn a_service_cannot_send_requests() {
    let mut bench = Bench::new();
    let mount = service(&mut bench, json!({})).await;
    let said = text(get(&mount, "/fetch").await.unwrap()).await;
    assert!(said.contains("HttpRequestDenied"), "{said}");
}

#[tokio::test]
async fn a_service_reads_and_writes_at_the_same_time() {
    let mut bench = Bench::new();
    let mount = service(&mut bench, json!({})).await;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, BodyError>>(1);
    let chunks = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let mut echo = request("POST", "/echo", b"");
    echo.body = Body::from_stream(None, chunks);
    sender.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    let mut reply = mount.call(echo).await.unwrap();
    assert_eq!(reply.body.chunk().await.unwrap().unwrap(), "first");
    sender.send(Ok(Bytes::from(vec![7; 300_000]))).await.unwrap();
    drop(sender);
    assert_eq!(reply.body.collect(1 << 20).await.unwrap(), vec![7; 300_000]);

    // A client that disconnects does not end the body.
    let mut broken = request("POST", "/length", b"");
    let chunks = [Ok(Bytes::from_static(b"half")), Err(BodyError::Truncated)];
    broken.body = Body::from_stream(Some(100), futures_util::stream::iter(chunks));
    assert_eq!(mount.call(broken).await.unwrap_err().reason(), "trap");
    let length = mount.call(request("POST", "/length", &[1; 300_000])).await.unwrap();
    assert_eq!(text(length).await, "300000");
}

#[tokio::test]
async fn settings_that_cannot_be_environment_variables_are_refused() {
    let mut bench = Bench::new();
    let mount = service(&mut bench, json!({"list": [1]})).await;
    let why = mount.serving().unwrap_err();
    assert!(why.contains("list: ") && why.contains("environment variables"), "{why}");
}

/// A component that exports an empty instance by a name, and nothing else.
fn exporting(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let instance = [5, 3, 1, 1, 0];
    let export = [&[1, 0, length][..], name.as_bytes(), &[5, 0, 0]].concat();
    let section = [11, u8::try_from(export.len()).unwrap()];
    [b"\0asm\x0d\0\x01\0".as_slice(), &instance, &section, &export].concat()
}

#[tokio::test]
async fn components_of_other_worlds_are_refused_with_the_reason() {
    let mut bench = Bench::new();
    bench.put("next.wasm", &exporting("wasi:http/handler@0.3.0"));
    bench.put("other.wasm", &exporting("example:other/thing@1.0.0"));
    let generation = bench.generation(&[]).await;
    let [next, other] = &generation.refused[..] else { panic!("{:?}", generation.refused) };
    assert!(next.why.contains("exports wasi:http/handler@0.3.0"), "{}", next.why);
    assert!(next.why.contains("wasi:http/incoming-handler@0.2"), "{}", next.why);
    assert!(other.why.contains("it exports example:other/thing@1.0.0"), "{}", other.why);
}
