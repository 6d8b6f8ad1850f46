//! Authorities, the certificates that they sign, and clients that present them.

use super::*;

/// An authority that signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(vec![certificate.der().clone()], &key)
    }
}

pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A certificate for a client with this common name.
pub(super) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The same, valid from and until these days from now.
pub(super) fn dated(name: &str, from: i32, until: i32) -> CertificateParams {
    let day = |day: i32| match u32::try_from(day) {
        Ok(days) => SystemTime::now() + DAY * days,
        Err(_) => SystemTime::now() - DAY * day.unsigned_abs(),
    };
    let mut params = named(name);
    (params.not_before, params.not_after) = (day(from).into(), day(until).into());
    params
}

/// What a client presents, and how it proves that it may.
#[derive(Clone, Debug)]
pub(super) struct Identity(pub(super) Option<Arc<CertifiedKey>>);

impl Identity {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = keepgate_certificates::provider().key_provider.load_private_key(der).unwrap();
        Self::with_key(chain, key)
    }

    pub(super) fn with_key(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Self {
        Self(Some(Arc::new(CertifiedKey::new(chain, key))))
    }

    pub(super) fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self::new(vec![certificate.der().clone()], &key)
    }

    pub(super) fn certified(&self) -> &CertifiedKey {
        self.0.as_ref().unwrap()
    }

    /// The same with further certificates behind its own.
    pub(super) fn followed_by(&self, further: &[&Authority]) -> Self {
        let mut chain = self.certified().cert.clone();
        chain.extend(further.iter().map(|authority| authority.der.clone()));
        Self::with_key(chain, self.certified().key.clone())
    }

    pub(super) fn fingerprint(&self) -> String {
        Fingerprint::of(self.certified().end_entity_cert().unwrap()).to_string()
    }

    /// A client, which resumes its sessions.
    pub(super) fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        protocol: &str,
    ) -> Connector {
        let provider = keepgate_certificates::provider();
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let mut config = config
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Connector(Arc::new(config))
    }
}

/// Presents the certificate whatever it is: rustls itself refuses to present some.
impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Whom these tests talk to is not what they check.
#[derive(Debug)]
pub(super) struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        keepgate_certificates::provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(super) struct Connector(pub(super) Arc<ClientConfig>);

impl Connector {
    pub(super) async fn connect(&self, server: &Running) -> std::io::Result<TlsClient> {
        let stream = TcpStream::connect(server.tcp()).await?;
        let name = "localhost".try_into().unwrap();
        soon(tokio_rustls::TlsConnector::from(self.0.clone()).connect(name, stream)).await
    }

    /// Status and body of a request on a new connection.
    pub(super) async fn ask(&self, server: &Running) -> (u16, String) {
        let stream = self.connect(server).await.unwrap();
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return ask_again(&mut Client::over(stream)).await;
        }
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut send, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let request =
            hyper::Request::get("https://localhost/").body(Empty::<Bytes>::new()).unwrap();
        let response = soon(send.send_request(request)).await.unwrap();
        let status = response.status().as_u16();
        let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
        drop(send);
        soon(connection).await.unwrap().unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
