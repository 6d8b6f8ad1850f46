//! The other end of the operators' listener: what the command line asks a running gateway.

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

/// An answer is JSON and short: a thousand jobs with their outputs at most.
const MOST: usize = 256 << 20;
/// Nothing that an operator asks for waits for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks a gateway on its operators' listener.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    address: Address,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No gateway listens there.
    #[error("no gateway answers at {address}: {source}")]
    NotRunning {
        /// Where it should.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// It refuses, in words.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Why.
        message: String,
    },
    /// Something else answers, or nothing in time.
    #[error("what answers at {address} is no gateway, or not well: {what}")]
    Broken {
        /// Where.
        address: Address,
        /// What happened.
        what: String,
    },
}

impl OperatorClient {
    /// A client of the listener at this address.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Reads a page, `/jobs` say.
    pub async fn get(&self, target: &str) -> Result<Value, OperatorError> {
        self.ask(Method::GET, target).await
    }

    /// Has something done.
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
                Address::Systemd { .. } => Err(self.broken("it has no address of its own")),
            }
        };
        let said = tokio::time::timeout(LIMIT, exchange).await;
        let (status, value) = said.unwrap_or_else(|_| Err(self.broken("no answer in time")))?;
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
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| self.broken(&error.to_string()))?.to_bytes();
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok((status, value))
    }

    fn broken(&self, what: &str) -> OperatorError {
        OperatorError::Broken { address: self.address.clone(), what: what.to_owned() }
    }
}
