//! The log lines of the release candidates of 2024: before a run they ask whether they may send lines, and refuse to start
//! if the answer is not exactly 200; then they post arrays of lines to the same URL.

use serde_json::{Value, json};

use super::config::Remote;
use super::wire::{Identity, get, send};
use crate::client::Reply;

/// Sends log lines of an instance.
#[derive(Debug)]
pub struct Logger {
    telemetry: Remote,
    identity: Identity,
}

impl Logger {
    /// Starts one, whose `telemetry` has the URL of logs.
    ///
    /// # Errors
    ///
    /// If the server says that it may not send lines.
    pub fn start(telemetry: &Remote) -> Result<Self, String> {
        let identity = Identity::new(&telemetry.seed()?, &telemetry.certificates);
        let probe = get(&telemetry.url()?, &identity).map_err(|error| error.to_string())?;
        if probe.status != 200 {
            return Err(format!("failed to connect to remote telemetry: {}", probe.status));
        }
        Ok(Self { telemetry: telemetry.clone(), identity })
    }

    /// Posts lines as one array.
    ///
    /// # Errors
    ///
    /// If the status is not 201.
    pub fn post(&self, lines: &[Value]) -> Result<Reply, String> {
        let reply = self.post_as("application/json", Value::from(lines).to_string().as_bytes());
        match reply.status {
            201 => Ok(reply),
            other => Err(format!("failed to send logs: {other} {}", reply.text())),
        }
    }

    /// Posts a body of another form.
    #[track_caller]
    pub fn post_as(&self, media_type: &str, body: &[u8]) -> Reply {
        let url = self.telemetry.url().unwrap();
        let headers = [("Content-Type", media_type)];
        send("POST", &url, &self.identity, &headers, body).unwrap()
    }
}

/// A line as these releases write it; `run` is empty outside of a run.
pub fn line(run: &str, level: &str, message: &str, second: u32) -> Value {
    json!({
        "run": run,
        "timestamp": format!("2026-01-31T02:30:{second:02}Z"),
        "level": level,
        "fields": {},
        "message": message,
    })
}
