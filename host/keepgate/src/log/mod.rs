//! Logging to standard error, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Format, Level, Log};

/// Starts logging. `KEEPGATE_LOG`, for example `debug` or `keepgate_http=debug,info`, overrides the
/// configuration.
pub(crate) fn start(log: &Log) {
    let level = match log.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = std::env::var("KEEPGATE_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        // Each request without credentials would be reported by the SDK of S3 as well, in its own words.
        .unwrap_or_else(|| EnvFilter::new(format!("{level},aws_config=error")));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails if logging has been started already, as in tests; then nothing changes.
    let _ = match log.format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => lines.json().try_init(),
    };
}
