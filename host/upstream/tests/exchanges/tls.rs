//! TLS: whom an upstream trusts, who the gateway is, and HTTP/2.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keepgate_certificates::Fingerprint;
use keepgate_store::{Body, BodyError};
use keepgate_upstream::{Exchanges as _, TlsFiles, Upstream, UpstreamError, UpstreamOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::server::{Connection, Server, get, options, request, text, unavailable};

/// An authority, with what it signs in a folder.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.as_ref().pem()).unwrap();
        Self { issuer, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` for a host, valid until a year.
    fn sign(&self, name: &str, host: &str, year: i32) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write(self.folder.path(), name, &certificate.pem(), &key);
    }

    fn ca(&self) -> TlsFiles {
        TlsFiles { ca: Some(self.path("ca.pem")), ..TlsFiles::default() }
    }
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) {
    fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn fingerprint(folder: &Path, name: &str) -> Fingerprint {
    let file = folder.join(format!("{name}.pem"));
    Fingerprint::of(&CertificateDer::from_pem_file(file).unwrap())
}

/// A server's side with this certificate; clients have to show one of this authority.
fn serve(
    folder: &Path,
    name: &str,
    clients: Option<&Authority>,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let provider = keepgate_certificates::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
            let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(built.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

async fn hello(mut connection: Connection) {
    while !connection.head().await.is_empty() {
        connection.answer("200 OK", "hello").await;
    }
}

fn upstream(server: &Server, tls: TlsFiles) -> Upstream {
    let options = options(&format!("https://{}", server.address));
    Upstream::new(UpstreamOptions { tls, ..options }).unwrap()
}

#[tokio::test]
async fn an_authority_in_a_file_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("server", "127.0.0.1", 4000);
    let folder = authority.folder.path();
    let server = Server::with_tls(serve(folder, "server", None, &[]), hello).await;
    let trusting = upstream(&server, authority.ca());
    assert_eq!(text(get(&trusting, "/").await.unwrap().body).await.unwrap(), "hello");
    assert_eq!(trusting.probe().await.unwrap(), "connected with TLS 1.3, HTTP/1.1");
    let distrusting = upstream(&server, other.ca());
    let why = unavailable(get(&distrusting, "/").await);
    assert_eq!(why, "upstream \"lxd\": its certificate is not trusted");
    let why = distrusting.probe().await.unwrap_err();
    let shown = fingerprint(folder, "server").to_string();
    assert!(why.contains("not signed by an authority in") && why.contains("ca.pem"), "{why}");
    assert!(why.contains(&format!("its SHA-256 fingerprint is {shown}")), "{why}");
}

#[tokio::test]
async fn a_certificate_for_another_host_or_time_is_not_trusted() {
    let authority = Authority::new();
    authority.sign("name", "other.example", 4000);
    authority.sign("old", "127.0.0.1", 2020);
    for (name, why) in [("name", "is not for 127.0.0.1"), ("old", "has expired")] {
        let config = serve(authority.folder.path(), name, None, &[]);
        let server = Server::with_tls(config, hello).await;
        let text = upstream(&server, authority.ca()).probe().await.unwrap_err();
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_trusted_whoever_signed_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for (name, year) in [("lxd", 4000), ("other", 4000), ("old", 2020)] {
        let mut params = CertificateParams::new(["lxd-host.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        write(folder.path(), name, &params.self_signed(&key).unwrap().pem(), &key);
    }
    let pinned = |name: &str| TlsFiles {
        fingerprint: Some(fingerprint(folder.path(), name)),
        ..TlsFiles::default()
    };
    let server = Server::with_tls(serve(folder.path(), "lxd", None, &[]), hello).await;
    assert_eq!(get(&upstream(&server, pinned("lxd")), "/").await.unwrap().status, 200);
    let why = upstream(&server, pinned("other")).probe().await.unwrap_err();
    assert!(why.contains("not the one with the configured fingerprint"), "{why}");
    assert!(why.contains(&fingerprint(folder.path(), "lxd").to_string()), "{why}");
    let old = Server::with_tls(serve(folder.path(), "old", None, &[]), hello).await;
    let why = upstream(&old, pinned("old")).probe().await.unwrap_err();
    assert!(why.contains("has expired"), "{why}");
}

#[tokio::test]
async fn the_gateway_shows_its_certificate_and_a_renewed_one_after_that() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("server", "127.0.0.1", 4000);
    authority.sign("client", "client.example", 4000);
    other.sign("client", "client.example", 4000);
    let config = serve(authority.folder.path(), "server", Some(&authority), &[]);
    let server = Server::with_tls(config, hello).await;
    let shows = |of: &Authority| TlsFiles {
        identity: Some((of.path("client.pem"), of.path("client.key"))),
        ..authority.ca()
    };
    assert_eq!(get(&upstream(&server, shows(&authority)), "/").await.unwrap().status, 200);
    let why = unavailable(get(&upstream(&server, authority.ca()), "/").await);
    assert!(why.contains("appears to require a client certificate"), "{why}");
    let wrong = upstream(&server, shows(&other));
    let why = unavailable(get(&wrong, "/").await);
    assert!(why.contains("refused the gateway's client certificate"), "{why}");
    for file in ["client.pem", "client.key"] {
        fs::copy(authority.path(file), other.path(file)).unwrap();
        // A time of its own, whatever the file system's clock counts.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
        let file = fs::File::options().write(true).open(other.path(file)).unwrap();
        file.set_modified(later).unwrap();
    }
    assert_eq!(get(&wrong, "/").await.unwrap().status, 200);
    // A file that cannot be used any more changes nothing.
    fs::write(other.path("client.key"), "").unwrap();
    assert_eq!(get(&wrong, "/").await.unwrap().status, 200);
    assert!(wrong.probe().await.is_ok());
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with() {
    let plain = Server::start(|mut connection| async move {
        connection.read(5).await;
        connection.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let authority = Authority::new();
    let why = upstream(&plain, authority.ca()).probe().await.unwrap_err();
    assert!(why.contains("should its URL begin with http://"), "{why}");
    let tls = authority.ca();
    let wrong = Upstream::new(UpstreamOptions { tls, ..plain.options() }).unwrap_err().0;
    assert!(wrong.contains("not https://"), "{wrong}");
}

/// What a server of HTTP/2 counts and waits for.
#[derive(Default)]
struct Served {
    requests: AtomicUsize,
    /// When `/cut` breaks off.
    cut: Notify,
}

/// A server of HTTP/2: `/cut` breaks off after five bytes of ten, everything else returns the body.
async fn http2(connection: Connection, served: Arc<Served>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        served.requests.fetch_add(1, Ordering::SeqCst);
        let served = Arc::clone(&served);
        async move {
            assert_eq!(request.version(), http::Version::HTTP_2);
            if request.uri().path() == "/cut" {
                let hello = stream::once(async { Ok(Frame::data(Bytes::from_static(b"hello"))) });
                let end = stream::once(async move {
                    served.cut.notified().await;
                    Err(std::io::Error::other("cut"))
                });
                let body = BodyExt::boxed(StreamBody::new(hello.chain(end)));
                let answer = http::Response::builder().header("content-length", "10");
                return Ok::<_, Infallible>(answer.body(body).unwrap());
            }
            let body = request.into_body().collect().await.map(Collected::to_bytes);
            let body = body.unwrap_or_else(|_| Bytes::from_static(b"aborted"));
            Ok(http::Response::new(Full::from(body).map_err(|no| match no {}).boxed()))
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(connection.io), service).await;
}

#[tokio::test]
async fn http_2_carries_many_requests_on_one_connection() {
    let authority = Authority::new();
    authority.sign("server", "127.0.0.1", 4000);
    let config = serve(authority.folder.path(), "server", None, &[b"h2", b"http/1.1"]);
    let served = Arc::new(Served::default());
    let shared = Arc::clone(&served);
    let server =
        Server::with_tls(config, move |connection| http2(connection, Arc::clone(&shared))).await;
    let upstream = upstream(&server, authority.ca());
    assert_eq!(upstream.probe().await.unwrap(), "connected with TLS 1.3, HTTP/2");
    let echo = |data: String| {
        let mut request = request("POST", "/echo");
        request.body = Some(Body::from_bytes(data));
        upstream.send(request)
    };
    let first = echo("first".to_owned()).await.unwrap();
    assert_eq!(text(first.body).await.unwrap(), "first");
    // Nobody reads the first responses until the last was read, and none holds up another.
    let large = "x".repeat(3 << 20);
    let open = join_all((0..8).map(|_| echo(large.clone()))).await;
    for response in open.into_iter().rev() {
        assert_eq!(text(response.unwrap().body).await.unwrap(), large);
    }
    assert_eq!(server.connections(), 2, "the check's and one for all requests");
    assert_eq!(served.requests.load(Ordering::SeqCst), 9);

    let mut cut = get(&upstream, "/cut").await.unwrap().body;
    assert_eq!(cut.chunk().await.unwrap().unwrap(), "hello");
    // A reset that comes together with the head takes its place.
    served.cut.notify_one();
    match text(cut).await {
        Err(BodyError::Unavailable(why)) => assert!(why.contains("after 5 of 10 bytes"), "{why}"),
        other => panic!("{other:?}"),
    }
    let mut upload = request("PUT", "/echo");
    let chunks = [Ok(Bytes::from_static(b"he")), Err(BodyError::Truncated)];
    upload.body = Some(Body::from_stream(None, stream::iter(chunks)));
    let result = upstream.send(upload).await;
    assert!(matches!(result, Err(UpstreamError::Body(BodyError::Truncated))), "{result:?}");
    assert_eq!(upstream.status().requests, 0);
}
