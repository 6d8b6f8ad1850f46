//! Requests to the server.

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use crate::arguments::ServerArguments;
use crate::manifest::{Manifest, Version};

/// Without a byte.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest manifest that is read.
const LONGEST: u64 = 1 << 30;

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    agent: Agent,
    url: String,
    authorization: Option<String>,
}

/// What the server refuses with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    message: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The server said no.
    #[error("the server refuses: {message} ({status})")]
    Refused { status: u16, code: String, message: String },
    /// It could not be asked, or broke off: trying again may help.
    #[error("{0}")]
    Broken(String),
}

impl Failed {
    /// Whether the same request may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Broken(_) => true,
        }
    }

    /// Whether the server said so because the bytes do not have their hash.
    pub(crate) fn is_mismatch(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "hash_mismatch")
    }
}

impl Server {
    pub(crate) fn new(arguments: &ServerArguments) -> Result<Self> {
        if arguments.url.is_empty() {
            bail!("say where the server is: --url, or FEST_URL");
        }
        let mut tls = TlsConfig::builder();
        if let Some(file) = &arguments.ca {
            let pem = fs::read(file).with_context(|| file.display().to_string())?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<Certificate<'static>> = certificates.collect();
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(PATIENCE))
            .build();
        let password = match &arguments.password_file {
            Some(file) => {
                let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => std::env::var("FEST_PASSWORD").unwrap_or_default(),
        };
        let login = format!("{}:{password}", arguments.user);
        let basic = base64::engine::general_purpose::STANDARD.encode(login);
        let authorization = (!arguments.user.is_empty()).then(|| format!("Basic {basic}"));
        let url = arguments.url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, authorization })
    }

    fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    fn send(
        &self,
        request: ureq::http::request::Builder,
        body: SendBody<'_>,
    ) -> Result<Response<Body>, Failed> {
        let broken =
            |error: &dyn std::fmt::Display| Failed::Broken(format!("{}: {error}", self.url));
        let request = request.body(body).map_err(|error| broken(&error))?;
        let mut response = self.agent.run(request).map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let refusal: Refusal = serde_json::from_str(&text).unwrap_or_default();
        let message =
            if refusal.message.is_empty() { text.trim().to_owned() } else { refusal.message };
        Err(Failed::Refused { status, code: refusal.error, message })
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        mut response: Response<Body>,
    ) -> Result<T, Failed> {
        let broken =
            |error: &dyn std::fmt::Display| Failed::Broken(format!("{}: {error}", self.url));
        let text = response.body_mut().with_config().limit(LONGEST).read_to_vec();
        let text = text.map_err(|error| broken(&error))?;
        serde_json::from_slice(&text).map_err(|error| broken(&error))
    }

    /// Posts a manifest, and returns it with what is available.
    pub(crate) fn post(&self, manifest: &Manifest) -> Result<Manifest, Failed> {
        let text =
            serde_json::to_vec(manifest).map_err(|error| Failed::Broken(error.to_string()))?;
        let request = self.request(Method::POST, "/manifests");
        let request = request.header("content-type", "application/json");
        let response = self.send(request, SendBody::from_owned_reader(io::Cursor::new(text)))?;
        self.json(response)
    }

    /// The newest version of a manifest, or the one with this time stamp.
    pub(crate) fn manifest(&self, name: &str, timestamp: Option<&str>) -> Result<Manifest, Failed> {
        let response =
            self.send(self.request(Method::GET, &version(name, timestamp)), SendBody::none())?;
        self.json(response)
    }

    pub(crate) fn list(&self, name: Option<&str>) -> Result<Vec<Version>, Failed> {
        let query = name.map(|name| format!("?name={}", encoded(name))).unwrap_or_default();
        let request = self.request(Method::GET, &format!("/manifests{query}"));
        let response = self.send(request, SendBody::none())?;
        self.json(response)
    }

    pub(crate) fn remove(&self, name: &str, timestamp: &str) -> Result<(), Failed> {
        let request = self.request(Method::DELETE, &version(name, Some(timestamp)));
        self.send(request, SendBody::none()).map(|_| ())
    }

    /// Uploads bytes of a file: all of it, or the range from `first` to `last` of `total`.
    pub(crate) fn put(
        &self,
        hash: &str,
        range: Option<(u64, u64, u64)>,
        length: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), Failed> {
        let request = self.request(Method::PUT, &format!("/files/{hash}"));
        let request = request.header("content-length", length);
        let request = match range {
            Some((first, last, total)) => {
                request.header("content-range", format!("bytes {first}-{last}/{total}"))
            }
            None => request,
        };
        let mut bytes = bytes;
        self.send(request, SendBody::from_reader(&mut bytes)).map(|_| ())
    }

    /// A file from an offset on.
    pub(crate) fn get(&self, hash: &str, from: u64) -> Result<impl Read + use<>, Failed> {
        let request = self.request(Method::GET, &format!("/files/{hash}"));
        let request =
            if from > 0 { request.header("range", format!("bytes={from}-")) } else { request };
        Ok(self.send(request, SendBody::none())?.into_body().into_reader())
    }
}

fn version(name: &str, timestamp: Option<&str>) -> String {
    let query = timestamp.map(|timestamp| format!("?timestamp={}", encoded(timestamp)));
    format!("/manifests/name/{}{}", encoded(name), query.unwrap_or_default())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
