//! HTTP proxies: which requests go through one, and how a connection is made through it.
//!
//! Encrypted ones take a tunnel (`CONNECT`); others name the server in each request.

use std::io;
use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a proxy's answer.
const MAX_ANSWER: usize = 16 * 1024;

/// Which proxy is used for which requests.
#[derive(Debug)]
pub(super) struct Proxies {
    matcher: Matcher,
    /// From the environment, and not from the configuration.
    ambient: bool,
}

impl Proxies {
    /// The proxy of the configuration, or those of the environment.
    pub(super) fn new(configured: Option<&str>) -> Self {
        match configured {
            Some(proxy) => Self { matcher: Matcher::builder().all(proxy).build(), ambient: false },
            None => Self { matcher: Matcher::from_env(), ambient: true },
        }
    }

    /// The proxy for a request, if there is one. What is asked for instance roles is only on this machine's own link.
    pub(super) fn of(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?.trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>().ok();
        let is_local = address.is_some_and(|address| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
        });
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if is_local || (self.ambient && is_here) {
            return None;
        }
        self.matcher.intercept(uri)
    }

    /// What a request that names its server tells the proxy about who sends it.
    pub(super) fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() == Some("https") {
            return None;
        }
        self.of(uri)?.basic_auth().cloned()
    }
}

/// Connects to a proxy; with a tunnel to this host and port if the connection is to be encrypted.
pub(super) async fn connect(
    proxy: &Intercept,
    tunnel: Option<(&str, u16)>,
) -> io::Result<TcpStream> {
    let uri = proxy.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        let scheme = uri.scheme_str().unwrap_or_default();
        return Err(failed(
            host,
            &format!("{scheme} proxies are not supported; use an HTTP proxy"),
        ));
    }
    let port = uri.port_u16().unwrap_or(80);
    let mut stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("proxy {host}:{port}: {error}")))?;
    stream.set_nodelay(true)?;
    let Some((server, server_port)) = tunnel else {
        return Ok(stream);
    };
    let server = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
    let mut request =
        format!("CONNECT {server}:{server_port} HTTP/1.1\r\nHost: {server}:{server_port}\r\n")
            .into_bytes();
    if let Some(authorization) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let status = answer(&mut stream, host).await?;
    match status.as_str() {
        "200" => Ok(stream),
        "407" => Err(failed(host, "it wants a user and a password (status 407)")),
        status => Err(failed(host, &format!("it refuses a tunnel to {server} (status {status})"))),
    }
}

/// The status of a proxy's answer. Reads byte by byte, because what follows is the server's.
async fn answer(stream: &mut TcpStream, host: &str) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(failed(host, "its answer is too long"));
        }
        head.push(stream.read_u8().await.map_err(|_| failed(host, "it closed the connection"))?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") => Ok(status.to_owned()),
        _ => Err(failed(host, "it does not speak HTTP")),
    }
}

fn failed(host: &str, why: &str) -> io::Error {
    io::Error::other(format!("proxy {host}: {why}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_own_link_goes_through_no_proxy() {
        let proxies = Proxies::new(Some("http://user:word@proxy.example.org:3128"));
        let of = |uri: &str| proxies.of(&uri.parse().unwrap());
        assert!(of("http://169.254.169.254/latest").is_none());
        assert!(of("http://[fd00:ec2::254]/latest").is_none());
        assert_eq!(of("https://s3.example.org/").unwrap().uri().port_u16(), Some(3128));
        assert!(of("http://127.0.0.1:80/").is_some());
        let plain = "http://s3.example.org/".parse().unwrap();
        assert!(proxies.authorization(&plain).unwrap().to_str().unwrap().starts_with("Basic "));
    }
}
