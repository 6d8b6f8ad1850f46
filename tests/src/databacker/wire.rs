//! The client's connections and requests. Configurations are fetched over HTTP/1.1 without ALPN, by the client's own
//! dialer; traces are posted by a library that offers HTTP/2 and falls back to HTTP/1.1.

use std::fmt;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use h2::client::SendRequest;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use tokio::runtime::Runtime;

use super::pins::Pins;
use super::seed::Seed;
use crate::client::{Connection, Reply};
use crate::connection::Socket;
use crate::program::LONG;

/// The parts of a URL that the client goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub is_secure: bool,
    /// The host, to which certificates are compared.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, `/` if there is none.
    pub path: String,
    /// The query with its question mark, or nothing.
    pub query: String,
}

impl Url {
    /// Parses one.
    ///
    /// # Errors
    ///
    /// If it is not an absolute URL of HTTP.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("not a URL: {text}");
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let is_secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let default = if is_secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
            None => (authority, default),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            is_secure,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What the client presents and whom it trusts. It is made once, when the client starts.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Option<Arc<CertifiedKey>>,
    fingerprints: Vec<String>,
}

impl Identity {
    /// Of a client that has just been started with this seed.
    pub fn new(seed: &Seed, fingerprints: &[String]) -> Self {
        Self::started(seed, fingerprints, std::time::SystemTime::now())
    }

    /// Of one that was started at this time, and uses its first certificate still.
    pub fn started(seed: &Seed, fingerprints: &[String], at: std::time::SystemTime) -> Self {
        let key = rustls::crypto::ring::sign::any_eddsa_type(&seed.pkcs8()).unwrap();
        let certified = CertifiedKey::new(vec![seed.certificate_of(at)], key);
        Self { certified: Some(Arc::new(certified)), fingerprints: fingerprints.to_vec() }
    }

    /// Of a client without a certificate, which has tokens instead.
    pub fn none(fingerprints: &[String]) -> Self {
        Self { certified: None, fingerprints: fingerprints.to_vec() }
    }

    fn config(&self, host: &str, alpn: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pins::new(&self.fingerprints, host)));
        let mut config = match &self.certified {
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Connects over HTTP/1.1, as the client's own dialer does.
///
/// # Errors
///
/// If the server cannot be reached or is not trusted.
pub fn connect(url: &Url, identity: &Identity) -> io::Result<Connection> {
    let tcp = TcpStream::connect((url.host.as_str(), url.port))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(LONG))?;
    tcp.set_write_timeout(Some(LONG))?;
    let socket = Socket::Tcp(tcp.try_clone()?);
    if !url.is_secure {
        return Ok(Connection::new(Box::new(tcp), socket, true, None));
    }
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let config = identity.config(&url.host, &[]);
    let mut client = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut tcp = tcp;
    while client.is_handshaking() {
        client.complete_io(&mut tcp)?;
    }
    Ok(Connection::new(Box::new(StreamOwned::new(client, tcp)), socket, false, None))
}

/// The head of a request for a configuration, exactly.
pub fn get_head(url: &Url) -> String {
    format!(
        "GET {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
        url.path,
        url.query,
        url.authority()
    )
}

/// Fetches a URL as the client fetches configurations.
///
/// # Errors
///
/// If the server cannot be reached or is not trusted.
pub fn get(url: &Url, identity: &Identity) -> io::Result<Reply> {
    let mut connection = connect(url, identity)?;
    connection.write(get_head(url).as_bytes())?;
    inflated(connection.reply("GET")?)
}

/// Sends a body as old releases and scripts do; `headers` are further ones.
///
/// # Errors
///
/// As [`get`].
pub fn send(
    method: &str,
    url: &Url,
    identity: &Identity,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut head = format!(
        "{method} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\n",
        url.path,
        url.query,
        url.authority()
    );
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "Accept-Encoding: gzip\r\n\r\n";
    let mut connection = connect(url, identity)?;
    connection.write(&[head.as_bytes(), body].concat())?;
    inflated(connection.reply(method)?)
}

/// What Go's client does by itself, since it is it that has asked for gzip.
fn inflated(mut reply: Reply) -> io::Result<Reply> {
    if reply.header("content-encoding") == Some("gzip") {
        let mut body = Vec::new();
        GzDecoder::new(&reply.body[..]).read_to_end(&mut body)?;
        reply.body = body;
    }
    Ok(reply)
}

/// A connection that offers HTTP/2, and posts with the headers of the exporter.
#[derive(Debug)]
pub struct Poster {
    runtime: Runtime,
    url: Url,
    identity: Identity,
    /// None before the first request, after a failure, and if the server speaks HTTP/1.1 only.
    http2: Option<SendRequest<Bytes>>,
}

/// What a server answers to a post.
#[derive(Clone)]
pub struct Answer {
    /// `HTTP/2` or `HTTP/1.1`.
    pub version: &'static str,
    /// The status.
    pub status: u16,
    /// The header `Retry-After` in seconds; anything but a number is ignored, as the exporter does.
    pub retry_after: Option<u64>,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {} {body:?}", self.version, self.status)
    }
}

impl Poster {
    /// For a URL, of which the query is dropped.
    pub fn new(url: &Url, identity: &Identity) -> Self {
        // Connections are served while nothing is sent, too, as Go's client does: otherwise a server that shuts down
        // would wait for an answer to its ping.
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let url = Url { query: String::new(), ..url.clone() };
        Self { runtime, url, identity: identity.clone(), http2: None }
    }

    /// Where it posts to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Posts a body.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached or is not trusted, or goes away before it has answered.
    pub fn post(&mut self, headers: &[(&'static str, &str)], body: Vec<u8>) -> io::Result<Answer> {
        if self.url.is_secure && self.http2.is_none() {
            self.http2 = self.negotiate()?;
        }
        let Some(http2) = &mut self.http2 else { return self.post_by_http1(headers, &body) };
        let uri = format!("https://{}{}", self.url.authority(), self.url.path);
        let mut request = http::Request::post(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header("content-length", body.len())
            .header("accept-encoding", "gzip")
            .body(())
            .unwrap();
        let done = self.runtime.block_on(async {
            tokio::time::timeout(LONG, exchange(http2, request, body.into())).await
        });
        let done = done.map_err(io::Error::other).and_then(|done| done.map_err(io::Error::other));
        if done.is_err() {
            self.http2 = None;
        }
        done
    }

    /// Connects with ALPN. None if the server chooses HTTP/1.1.
    fn negotiate(&self) -> io::Result<Option<SendRequest<Bytes>>> {
        let config = self.identity.config(&self.url.host, &["h2", "http/1.1"]);
        let name = ServerName::try_from(self.url.host.clone()).map_err(io::Error::other)?;
        self.runtime.block_on(async {
            let address = (self.url.host.as_str(), self.url.port);
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
            if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Ok(None);
            }
            let (http2, connection) = h2::client::handshake(tls).await.map_err(io::Error::other)?;
            tokio::spawn(async {
                // What it fails with, its requests fail with too.
                let _ = connection.await;
            });
            Ok(Some(http2))
        })
    }

    fn post_by_http1(&self, headers: &[(&'static str, &str)], body: &[u8]) -> io::Result<Answer> {
        let (path, authority) = (&self.url.path, self.url.authority());
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\nAccept-Encoding: gzip\r\n\r\n", body.len());
        let mut connection = connect(&self.url, &self.identity)?;
        connection.write(&[head.as_bytes(), body].concat())?;
        let reply = inflated(connection.reply("POST")?)?;
        Ok(Answer {
            version: "HTTP/1.1",
            status: reply.status,
            retry_after: reply.header("retry-after").and_then(|text| text.parse().ok()),
            content_type: reply.header("content-type").map(str::to_owned),
            body: reply.body,
        })
    }
}

async fn exchange(
    http2: &mut SendRequest<Bytes>,
    request: http::Request<()>,
    body: Bytes,
) -> Result<Answer, h2::Error> {
    let mut ready = http2.clone().ready().await?;
    let (response, mut sending) = ready.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    let (head, mut incoming) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece?;
        incoming.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Answer {
        version: "HTTP/2",
        status: head.status.as_u16(),
        retry_after: text("retry-after").and_then(|text| text.parse().ok()),
        content_type: text("content-type").map(str::to_owned),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_configurations_are_those_of_the_real_client() {
        let url = Url::parse("https://127.0.0.1:18444/engines/config/i1").unwrap();
        assert_eq!(
            get_head(&url),
            "GET /engines/config/i1 HTTP/1.1\r\nHost: 127.0.0.1:18444\r\nUser-Agent: Go-http-client/1.1\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        );
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, is_secure, host, port, path, query) in [
            ("https://h/a/b?x=1", true, "h", 443, "/a/b", "?x=1"),
            ("https://h", true, "h", 443, "/", ""),
            ("http://127.0.0.1:81?q", false, "127.0.0.1", 81, "/", "?q"),
        ] {
            let url = Url::parse(text).unwrap();
            let found = (url.is_secure, &*url.host, url.port, &*url.path, &*url.query);
            assert_eq!(found, (is_secure, host, port, path, query));
        }
        assert!(Url::parse("ftp://h").is_err() && Url::parse("h/x").is_err());
    }
}
