//! Records and received blobs as a plugin uses them, tested with the guest `keeper`, which does what its requests say.

use futures_util::stream;
use keepgate_records::{Options, Records};
use keepgate_runtime::capability::records::AllTables;
use keepgate_store::{BodyError, Key, Part};

use super::*;

/// Two mounts with the same records, and the store of the first.
async fn mounts(options: Options) -> (Vec<Arc<Mount>>, Arc<dyn BlobStore>) {
    let mut bench = Bench::new();
    bench.put("keeper.wasm", &guest("keeper"));
    let records = Arc::new(Records::in_memory(options).unwrap());
    let mut store = None;
    let specs = ["/a", "/b"].map(|path| {
        spec(path, "keeper", |spec| {
            let own = with_store(spec);
            store.get_or_insert(own);
            spec.grants.insert(AllTables(records.clone()));
        })
    });
    let generation = bench.generation(&specs).await;
    assert_eq!(generation.refused, []);
    (generation.mounts.clone(), store.unwrap())
}

async fn ask(
    mount: &Mount,
    method: &str,
    path: &str,
    query: (&str, &str),
    body: &[u8],
) -> Result<String, Failure> {
    let mut request = request(method, path, body);
    request.query = vec![(query.0.to_owned(), query.1.to_owned())];
    match mount.call(request).await {
        Ok(reply) => Ok(text(reply).await),
        Err(CallError::Failure(failure)) => Err(failure),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn each_mount_has_records_of_its_own() {
    let (mounts, _store) = mounts(Options::default()).await;
    let none = ("", "");
    let put = |mount: usize, path, query, body| ask(&mounts[mount], "PUT", path, query, body);
    assert!(put(0, "/record/k", none, b"one").await.is_ok());
    assert_eq!(put(0, "/record/k", ("if", "absent"), b"x").await, Err(Failure::PreconditionFailed));
    assert_eq!(
        put(1, "/record/k", ("if", "present"), b"x").await,
        Err(Failure::PreconditionFailed)
    );
    assert!(put(1, "/record/k", ("if", "absent"), b"two").await.is_ok());
    for (mount, expected) in [(0, "one"), (1, "two")] {
        let got = ask(&mounts[mount], "GET", "/record/k", none, b"").await.unwrap();
        assert_eq!(got, expected);
    }
    assert!(put(0, "/pair/x", none, b"v").await.is_ok());
    let listed = ask(&mounts[0], "GET", "/records", none, b"").await.unwrap();
    assert_eq!(listed, r#"["k","one/x","two/x"]"#);
    let listed = ask(&mounts[0], "GET", "/records", ("prefix", "one/"), b"").await.unwrap();
    assert_eq!(listed, r#"["one/x"]"#);
    assert!(ask(&mounts[0], "DELETE", "/record/k", none, b"").await.is_ok());
    assert_eq!(ask(&mounts[0], "GET", "/record/k", none, b"").await, Err(Failure::NotFound));
    assert_eq!(ask(&mounts[1], "GET", "/record/k", none, b"").await.unwrap(), "two");
}

#[tokio::test]
async fn a_full_table_is_a_quota() {
    let (mounts, _store) = mounts(Options { max_size: 70, ..Options::default() }).await;
    let refused = ask(&mounts[0], "PUT", "/record/k", ("", ""), b"0123456789").await;
    assert!(matches!(refused, Err(Failure::QuotaExceeded(_))), "{refused:?}");
    let long = ask(&mounts[0], "PUT", "/record/k", ("", ""), &[0; (256 << 10) + 1]).await;
    assert!(matches!(long, Err(Failure::Invalid(_))), "{long:?}");
}

#[tokio::test]
async fn a_gateway_without_records_says_so() {
    let mut bench = Bench::new();
    bench.put("keeper.wasm", &guest("keeper"));
    let spec = spec("/", "keeper", |spec| drop(with_store(spec)));
    let mount = bench.generation(&[spec]).await.mounts[0].clone();
    let refused = ask(&mount, "GET", "/record/k", ("", ""), b"").await;
    assert!(
        matches!(&refused, Err(Failure::Unsupported(why)) if why.contains("no records")),
        "{refused:?}"
    );
}

/// A body whose sender leaves after some bytes, in a call that then ends.
#[tokio::test]
async fn what_came_of_a_body_is_stored_although_the_call_has_ended() {
    let (mounts, store) = mounts(Options::default()).await;
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let first = Ok(bytes::Bytes::from_static(b"hello"));
    let rest = stream::once(async move {
        let _ = left.await;
        Err(BodyError::Truncated)
    });
    let mut request = request("PUT", "/blob/b", b"");
    request.body = Body::from_stream(Some(100), stream::once(async { first }).chain(rest));
    let mount = mounts[0].clone();
    let call = tokio::spawn(async move { mount.call(request).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    call.abort();
    assert!(call.await.is_err(), "it waits for the body");
    leave.send(()).unwrap();
    let key = Key::new("b").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while store.head(&key).await.is_err() {
        assert!(Instant::now() < until, "nothing was stored");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let kept = store.get(&key, Part::Whole).await.unwrap();
    assert_eq!(kept.body.collect(9).await.unwrap(), "hello");
}
