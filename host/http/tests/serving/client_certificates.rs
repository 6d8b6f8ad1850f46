//! Clients that authenticate with a certificate: over both versions of TLS and of HTTP, whoever must not get in gets a
//! response instead of a broken handshake.

mod identities;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keepgate_auth::{Access, Certificates, FingerprintList, Htpasswd, Method};
use keepgate_certificates::Fingerprint;
use keepgate_certificates::client::Authorities;
use keepgate_http::{ListenerConfig, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;

use identities::*;

use crate::support::{
    Client, Native, Running, TlsClient, certificate, config, soon, start_mounts, text,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];
const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];
const FORBIDDEN: &str = "Forbidden: a client certificate that the gateway trusts is needed\n";

/// A request on an open connection of HTTP/1.1.
async fn ask_again(client: &mut Client<TlsClient>) -> (u16, String) {
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let response = client.response().await;
    (response.status, response.text().to_owned())
}

/// A gateway that answers with the principal, and asks for certificates.
async fn start(folder: &Path, methods: Vec<Method>) -> (Running, Arc<Tls>) {
    let handler = Native::at("/", |request| async move {
        let claims = request.principal.map(|principal| {
            let claims =
                principal.claims.into_iter().map(|(name, value)| format!("{name}={value}"));
            format!(
                "{} {}\n{}\n",
                principal.name,
                principal.method,
                claims.collect::<Vec<_>>().join("\n")
            )
        });
        text(claims.unwrap_or_default())
    });
    let (files, _) = certificate(folder, "server");
    let tls = Tls::load(files).unwrap();
    tls.ask_for_certificates(true);
    let config = ListenerConfig { tls: Some(tls.clone()), ..config() };
    let access = Arc::new(Access::Methods(methods));
    (start_mounts(vec![(handler, access)], config).await, tls)
}

fn trusting(certificates: Certificates) -> Vec<Method> {
    vec![Method::Certificates(Arc::new(certificates))]
}

fn authorities(folder: &Path, authority: &Authority) -> Option<Arc<Authorities>> {
    let file = folder.join("clients-ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    Some(Arc::new(Authorities::load(&[file]).unwrap()))
}

/// A list that is looked at for each request.
fn list(folder: &Path, text: &str) -> Arc<FingerprintList> {
    let file = folder.join("clients");
    std::fs::write(&file, text).unwrap();
    FingerprintList::load(file, Duration::ZERO).unwrap()
}

fn replace(list: &FingerprintList, text: &str) {
    let new = list.path().with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, list.path()).unwrap();
}

#[tokio::test]
async fn whoever_is_trusted_gets_in_and_others_get_a_response() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let between = ours.intermediate("between");
    let listed = Identity::self_signed(&named("anything/at all"));
    let expired_on_the_list = Identity::self_signed(&dated("x", -20, -10));
    let text = format!(
        "{} listed\n{} expired\n",
        listed.fingerprint().to_uppercase(),
        expired_on_the_list.fingerprint()
    );
    let certificates = Certificates {
        list: Some(list(folder.path(), &text)),
        authorities: authorities(folder.path(), &ours),
        any_key: false,
    };
    let (server, _) = start(folder.path(), trusting(certificates)).await;

    let for_use = |name: &str, usage| {
        let mut params = named(name);
        params.extended_key_usages = vec![usage];
        ours.sign(&params)
    };
    let mut without_name = named("x");
    without_name.distinguished_name = DistinguishedName::new();
    let admitted = [
        ("ann", ours.sign(&named("ann"))),
        ("bob", between.sign(&named("bob")).followed_by(&[&between])),
        ("cleo", between.sign(&named("cleo")).followed_by(&[&foreign, &ours, &between])),
        ("dora", for_use("dora", ExtendedKeyUsagePurpose::ClientAuth)),
        ("listed", listed),
    ];
    let mut garbage = ours.sign(&named("garbage"));
    garbage = Identity::with_key(
        vec![b"not a certificate".to_vec().into()],
        garbage.certified().key.clone(),
    );
    let refused = [
        ("none", Identity(None)),
        ("expired", ours.sign(&dated("ann", -20, -10))),
        ("not yet valid", ours.sign(&dated("ann", 10, 20))),
        ("expired on the list", expired_on_the_list),
        ("foreign", foreign.sign(&named("ann"))),
        ("foreign with our authority", foreign.sign(&named("ann")).followed_by(&[&ours])),
        ("intermediate missing", between.sign(&named("bob"))),
        ("for servers", for_use("ann", ExtendedKeyUsagePurpose::ServerAuth)),
        ("self-signed", Identity::self_signed(&named("ann"))),
        ("without a name", ours.sign(&without_name)),
        ("an unacceptable name", ours.sign(&named("../ann"))),
        ("not a certificate", garbage),
    ];
    let mut failures = 0;
    for version in VERSIONS {
        for protocol in PROTOCOLS {
            for (name, identity) in &admitted {
                let (status, body) = identity.client(version, protocol).ask(&server).await;
                assert_eq!(status, 200, "{name} {protocol}: {body}");
                assert!(body.starts_with(&format!("{name} certificate\n")), "{name}: {body}");
                let verified = if *name == "listed" { "fingerprint" } else { "ca" };
                assert!(body.contains(&format!("\nverified={verified}\n")), "{name}: {body}");
                assert!(
                    body.contains(&format!("\nfingerprint={}\n", identity.fingerprint())),
                    "{body}"
                );
            }
            for (name, identity) in &refused {
                let answer = identity.client(version, protocol).ask(&server).await;
                assert_eq!(answer, (403, FORBIDDEN.to_owned()), "{name} {protocol}");
            }
            failures += refused.len() - 1;
        }
    }
    let expected = format!("login_failures_total{{mount=\"/\"}} {failures}\n");
    assert!(server.counters().contains(&expected), "{}", server.counters());
    server.end().await;
}

#[tokio::test]
async fn nobody_gets_in_with_the_certificate_of_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let certificates =
        Certificates { list: None, authorities: authorities(folder.path(), &ours), any_key: true };
    let (server, _) = start(folder.path(), trusting(certificates)).await;
    let (ann, thief) = (ours.sign(&named("ann")), ours.sign(&named("thief")));
    let stolen = Identity::with_key(ann.certified().cert.clone(), thief.certified().key.clone());
    for version in VERSIONS {
        // In TLS 1.3 the client learns of it with its first read.
        if let Ok(stream) = stolen.client(version, "http/1.1").connect(&server).await {
            let mut client = Client::over(stream);
            assert!(client.rest().await.1.is_err());
        }
        assert_eq!(ann.client(version, "http/1.1").ask(&server).await.0, 200);
    }
    server.end().await;
}

#[tokio::test]
async fn a_certificate_off_the_list_is_refused_on_open_and_resumed_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (ann, bob) = (Identity::self_signed(&named("a")), Identity::self_signed(&named("b")));
    let both = format!("{} ann\n{} bob\n", ann.fingerprint(), bob.fingerprint());
    let list = list(folder.path(), &both);
    let certificates = Certificates { list: Some(list.clone()), ..Certificates::default() };
    let (server, _) = start(folder.path(), trusting(certificates)).await;
    for version in VERSIONS {
        replace(&list, &both);
        let connector = ann.client(version, "http/1.1");
        let mut open = Client::over(connector.connect(&server).await.unwrap());
        let (status, first) = ask_again(&mut open).await;
        assert_eq!(status, 200, "{first}");

        let mut resumed = Client::over(connector.connect(&server).await.unwrap());
        assert_eq!(resumed.stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(ask_again(&mut resumed).await, (200, first.clone()), "the same identity");

        replace(&list, &format!("# ann has left\n{} bob\n", bob.fingerprint()));
        for client in [&mut open, &mut resumed] {
            assert_eq!(ask_again(client).await, (403, FORBIDDEN.to_owned()));
        }
        let mut again = Client::over(connector.connect(&server).await.unwrap());
        assert_eq!(again.stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(ask_again(&mut again).await.0, 403);
        // Back on the list, and the connection is still open.
        replace(&list, &both);
        assert_eq!(ask_again(&mut open).await, (200, first));
    }
    server.end().await;
}

#[tokio::test]
async fn sessions_that_began_without_the_question_are_not_resumed_where_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates { any_key: true, ..Certificates::default() };
    let (server, tls) = start(folder.path(), trusting(certificates)).await;
    let ann = Identity::self_signed(&named("ann"));
    for version in VERSIONS {
        let connector = ann.client(version, "http/1.1");
        tls.ask_for_certificates(false);
        assert_eq!(connector.ask(&server).await, (403, FORBIDDEN.to_owned()));
        let mut resumed = Client::over(connector.connect(&server).await.unwrap());
        assert_eq!(resumed.stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(ask_again(&mut resumed).await.0, 403);
        tls.ask_for_certificates(true);
        assert_eq!(connector.ask(&server).await.0, 200);
    }
    server.end().await;
}

#[tokio::test]
async fn any_key_admits_whoever_has_one_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates { any_key: true, ..Certificates::default() };
    let (server, _) = start(folder.path(), trusting(certificates)).await;
    let ask = async |identity: &Identity| identity.client(&version::TLS13, "h2").ask(&server).await;
    let key = KeyPair::generate().unwrap();
    let of_this_key = |params: CertificateParams| {
        Identity::new(vec![params.self_signed(&key).unwrap().der().clone()], &key)
    };
    let ann = of_this_key(named("ann"));
    let (status, body) = ask(&ann).await;
    assert_eq!(status, 200, "{body}");
    let lines: Vec<&str> = body.lines().collect();
    let spki = Fingerprint::of(&rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(
        lines,
        [
            format!("{spki} certificate"),
            format!("fingerprint={}", ann.fingerprint()),
            format!("spki-sha256={spki}"),
            "subject=CN=ann".to_owned(),
            "issuer=CN=ann".to_owned(),
            "verified=no".to_owned(),
        ]
    );
    // Another certificate of the same key, whatever else is in it, is the same user.
    let mut for_servers = dated("other", -20, -10);
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (status, body) = ask(&of_this_key(for_servers)).await;
    assert!(status == 200 && body.starts_with(&format!("{spki} certificate")), "{body}");
    assert_eq!(ask(&Identity(None)).await.0, 403);
    server.end().await;
}

#[tokio::test]
async fn a_password_is_the_other_way_in_if_the_mount_takes_both() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join(".htpasswd");
    std::fs::write(&users, "a:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n").unwrap();
    let users = Htpasswd::load(users, keepgate_auth::htpasswd::Options::default()).unwrap();
    let ann = Identity::self_signed(&named("x"));
    let list = list(folder.path(), &format!("{} ann\n", ann.fingerprint()));
    let certificates = Certificates { list: Some(list), ..Certificates::default() };
    for order in [false, true] {
        let mut methods =
            trusting(Certificates { list: certificates.list.clone(), ..Certificates::default() });
        methods.insert(usize::from(order), Method::Htpasswd(users.clone()));
        let (server, _) = start(folder.path(), methods).await;
        let ask = async |identity: &Identity, headers: &str| {
            let connector = identity.client(&version::TLS13, "http/1.1");
            let mut client = Client::over(connector.connect(&server).await.unwrap());
            client.send(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
            client.response().await
        };
        let (right, wrong) =
            ("Authorization: Basic YTpteVBhc3N3b3Jk\r\n", "Authorization: Basic YTp3cm9uZw==\r\n");
        let stranger = Identity::self_signed(&named("stranger"));
        for identity in [&stranger, &Identity(None)] {
            for headers in ["", wrong] {
                let refused = ask(identity, headers).await;
                assert_eq!((refused.status, refused.text()), (401, "Unauthorized\n"));
                assert!(refused.header("www-authenticate").is_some());
            }
            assert!(ask(identity, right).await.text().starts_with("a htpasswd"));
        }
        assert!(ask(&ann, wrong).await.text().starts_with("ann certificate"));
        let expected = if order { "ann certificate" } else { "a htpasswd" };
        assert!(ask(&ann, right).await.text().starts_with(expected));
        // What a proxy in front would say about a certificate is nobody's word.
        let forged = "X-Forwarded-Client-Cert: Hash=00\r\nX-SSL-Client-Verify: SUCCESS\r\n";
        assert_eq!(ask(&Identity(None), forged).await.status, 401);
        server.end().await;
    }
}
