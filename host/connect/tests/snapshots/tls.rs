//! Members that require certificates, and members whose certificate must not be trusted.

use std::fs;
use std::path::{Path, PathBuf};

use keepgate_connect::etcd::{Cluster, ClusterOptions, TlsFiles};
use keepgate_connect::{ConnectError, Snapshots as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

use crate::member::{self, Member, options};
use crate::reading::read;

/// An authority and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.as_ref().pem()).unwrap();
        Self { issuer, folder }
    }

    /// Writes `NAME.pem` and `NAME.key`, for this address.
    fn sign(&self, name: &str, address: &str) {
        self.sign_until(name, address, 4000);
    }

    /// The same, expired at the beginning of this year.
    fn sign_until(&self, name: &str, address: &str, year: i32) {
        let mut params = CertificateParams::new([address.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The options of a client that trusts this authority and has a certificate of that one.
    fn files(&self, client: Option<&Authority>) -> TlsFiles {
        TlsFiles {
            ca: Some(self.path("ca.pem")),
            certificate: client.map(|client| client.path("client.pem")),
            key: client.map(|client| client.path("client.key")),
        }
    }
}

/// Two authorities of the same name: the cluster's, and one that it does not know.
struct Setup {
    cluster: Authority,
    other: Authority,
    _folder: TempDir,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Authority::new(folder.path(), "cluster");
    let other = Authority::new(folder.path(), "other");
    cluster.sign("server", "127.0.0.1");
    cluster.sign("client", "client.example");
    other.sign("client", "client.example");
    Setup { cluster, other, _folder: folder }
}

impl Setup {
    /// A member whose clients must, or need not, show a certificate.
    fn start(&self, program: &PathBuf, client_certificates: bool) -> Member {
        let file =
            |name: &str, file: &str| format!("--{name}={}", self.cluster.path(file).display());
        let (certificate, key) = (file("cert-file", "server.pem"), file("key-file", "server.key"));
        let ca = file("trusted-ca-file", "ca.pem");
        let mut further = vec![certificate.as_str(), key.as_str()];
        if client_certificates {
            further.extend(["--client-cert-auth", &ca]);
        }
        Member::start_with(program, "https", &further)
    }
}

fn with(url: &str, tls: Option<TlsFiles>) -> Cluster {
    Cluster::new(ClusterOptions { tls, ..options(&[url]) }).unwrap()
}

async fn cause(cluster: &Cluster) -> String {
    let error = cluster.take(&[]).await.unwrap_err();
    let ConnectError::Unavailable(text) = error else {
        panic!("{error:?}");
    };
    // The status reports the same.
    let status = cluster.status().await.remove(0).outcome.unwrap_err();
    // The words in brackets come from libraries, and depend on timing.
    let words = status.split(" (").next().unwrap();
    assert!(text.contains(words), "{text:?} {status:?}");
    text
}

#[tokio::test]
async fn both_sides_show_certificates() {
    for program in member::programs("client certificates") {
        let setup = setup();
        let member = setup.start(&program, true);
        let files = setup.cluster.files(Some(&setup.cluster));
        read(&with(&member.url, Some(files))).await;

        let told = cause(&with(&member.url, Some(setup.cluster.files(None)))).await;
        assert!(told.contains("appears to require a client certificate"), "{told}");

        let told = cause(&with(&member.url, Some(setup.cluster.files(Some(&setup.other))))).await;
        let file = setup.other.path("client.pem");
        assert!(told.contains("perhaps because of the certificate in "), "{told}");
        assert!(told.contains(file.to_str().unwrap()), "{told}");
    }
}

#[tokio::test]
async fn a_certificate_renewed_on_disk_is_used() {
    for program in member::programs("renewed client certificates") {
        let setup = setup();
        let member = setup.start(&program, true);
        let cluster = with(&member.url, Some(setup.cluster.files(Some(&setup.other))));
        cause(&cluster).await;
        for name in ["client.pem", "client.key"] {
            fs::copy(setup.cluster.path(name), setup.other.path(name)).unwrap();
        }
        read(&cluster).await;
    }
}

#[tokio::test]
async fn a_member_must_prove_its_identity() {
    for program in member::programs("members with certificates") {
        let setup = setup();
        let member = setup.start(&program, false);
        read(&with(&member.url, Some(setup.cluster.files(None)))).await;

        let told = cause(&with(&member.url, Some(setup.other.files(None)))).await;
        let expected = format!(
            "its certificate is not trusted: it is not signed by an authority in {}",
            setup.other.path("ca.pem").display()
        );
        assert!(told.ends_with(&expected), "{told}");

        let told = cause(&with(&member.url, None)).await;
        assert!(told.contains("none of this system's authorities signed it"), "{told}");

        let named = member.url.replace("127.0.0.1", "localhost");
        let told = cause(&with(&named, Some(setup.cluster.files(None)))).await;
        assert!(told.ends_with("its certificate is not for localhost"), "{told}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_reported_as_expired() {
    for program in member::programs("expired certificates") {
        let setup = setup();
        setup.cluster.sign_until("server", "127.0.0.1", 2020);
        let member = setup.start(&program, false);
        let told = cause(&with(&member.url, Some(setup.cluster.files(None)))).await;
        assert!(told.ends_with("its certificate has expired"), "{told}");
    }
}

#[tokio::test]
async fn a_mismatch_of_tls_and_plain_text_is_explained() {
    for program in member::programs("TLS where there is none, and none where there is") {
        let setup = setup();
        let member = setup.start(&program, false);
        let told = cause(&with(&member.url.replace("https", "http"), None)).await;
        assert!(told.contains("should the endpoint begin with https://?"), "{told}");

        let member = Member::start(&program);
        let url = member.url.replace("http", "https");
        let told = cause(&with(&url, Some(setup.cluster.files(None)))).await;
        assert!(told.contains("should the endpoint begin with http://?"), "{told}");
    }
}
