//! The client of the operators' listener, by which the command line talks to a running gateway.

use std::io;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::listen::Address;

/// Bytes of an answer: enough for a thousand jobs with their outputs.
const MAX_ANSWER: usize = 256 << 20;
/// No page waits for anything, so this is generous.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Talks to a gateway on its operators' listener.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    address: Address,
}

/// Why a request to the gateway failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No gateway listens there.
    #[error("no gateway answers at {address}: {source}")]
    NotRunning {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// The gateway refused the request.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The gateway's reason.
        message: String,
    },
    /// The answer is not that of a gateway, or did not come in time.
    #[error("no valid answer from {address}: {what}")]
    Broken {
        /// The address.
        address: Address,
        /// What is wrong with it.
        what: String,
    },
}

impl OperatorClient {
    /// A client for the listener at this address.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Fetches a page such as `/jobs`.
    pub async fn get(&self, target: &str) -> Result<Value, OperatorError> {
        self.ask(Method::GET, target).await
    }

    /// Posts to a page that changes something.
    pub async fn post(&self, target: &str) -> Result<Value, OperatorError> {
        self.ask(Method::POST, target).await
    }

    async fn ask(&self, method: Method, target: &str) -> Result<Value, OperatorError> {
        let not_running =
            |source| OperatorError::NotRunning { address: self.address.clone(), source };
        let exchange = async {
            match &self.address {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(not_running)?;
                    self.exchange(stream, method, target).await
                }
                Address::Tcp { host, port } => {
                    let host = if host.is_empty() { "127.0.0.1" } else { host };
                    let stream = TcpStream::connect((host, *port)).await.map_err(not_running)?;
                    self.exchange(stream, method, target).await
                }
                Address::Systemd { .. } => {
                    Err(self.broken("a socket from systemd has no address to connect to"))
                }
            }
        };
        let result = tokio::time::timeout(TIMEOUT, exchange).await;
        let (status, value) = result.unwrap_or_else(|_| Err(self.broken("timed out")))?;
        if status.is_success() {
            return Ok(value);
        }
        let message = value.get("message").and_then(Value::as_str);
        let message = message.map_or_else(|| status.to_string(), ToOwned::to_owned);
        Err(OperatorError::Refused { status: status.as_u16(), message })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        target: &str,
    ) -> Result<(StatusCode, Value), OperatorError> {
        let broken = |error: hyper::Error| self.broken(&error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.broken(&error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.broken(&error.to_string()))?.to_bytes();
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok((status, value))
    }

    fn broken(&self, what: &str) -> OperatorError {
        OperatorError::Broken { address: self.address.clone(), what: what.to_owned() }
    }
}
