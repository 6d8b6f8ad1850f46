//! Whether an upstream works, for `keepgate check --connect`: a connection, and the status of a path if the operator
//! named one. In the words of the log, because operators ask.

use http::{HeaderMap, Method};

use crate::client::{Head, NoResponse, Patience, Upstream};
use crate::upload::Upload;

impl Upstream {
    /// Connects, and asks for the path to check. Returns one line; the error is one, too.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub async fn probe(&self) -> Result<String, String> {
        let inner = &self.0;
        let Some(dialer) = &inner.dialer else {
            return Ok("a list of addresses; nothing to connect to".to_owned());
        };
        let link = dialer.dial().await.map_err(|error| error.to_string())?;
        let facts = link.facts;
        drop(link);
        let protocol = if facts.http2 { "HTTP/2" } else { "HTTP/1.1" };
        let connected = match facts.tls {
            Some(tls) => format!("connected with {tls}, {protocol}"),
            None => "connected".to_owned(),
        };
        let Some(check) = &inner.check else {
            return Ok(connected);
        };
        let status = self.status_of(check).await?;
        let what = format!("{connected}; GET {check} answers {status}");
        if status < 400 { Ok(what) } else { Err(what) }
    }

    /// The status of a path, whatever plugins may ask for.
    async fn status_of(&self, path: &str) -> Result<u16, String> {
        let inner = &self.0;
        let target = inner.route.resolve(path, &[]).map_err(|error| error.to_string())?;
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = Head { method, uri: target.uri, headers, own: target.own };
        let head = inner.with_credentials(head).await.map_err(|words| words.full)?;
        let patience = Patience { answer: inner.timeouts.answer, silence: inner.timeouts.silence };
        match inner.exchange(&head, Upload::new(None), patience).await {
            Ok(begun) => Ok(begun.response.status().as_u16()),
            Err(
                NoResponse::Stale(words)
                | NoResponse::Unavailable(words)
                | NoResponse::Refused(words),
            ) => Err(words.full),
            Err(NoResponse::Body(error)) => Err(error.to_string()),
        }
    }
}
