//! Logging to standard error, as text or JSON.
//!
//! Much of what is logged was written by others: plugins, clients, names of files. Lines of text are made so that none of
//! it can look like a line or a field of the gateway's ([`Fields`]); in JSON, nothing can. `flood` bounds how much.

mod flood;

use std::fmt;
use std::io::IsTerminal as _;

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::flood::FloodControl;
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
    let subscriber = tracing_subscriber::registry().with(filter).with(FloodControl::default());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Fails if logging has been started already, as in tests; then nothing changes.
    let _ = match log.format {
        Format::Text => {
            let lines = lines.fmt_fields(Fields).with_ansi(std::io::stderr().is_terminal());
            subscriber.with(lines).try_init()
        }
        Format::Json => subscriber.with(lines.json()).try_init(),
    };
}

/// Writes the message and the fields of an event as `MESSAGE NAME=VALUE NAME=VALUE`. A message or value that has control
/// characters, or something that reads like a field, is quoted as Rust quotes a string.
#[derive(Debug)]
struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, result: Ok(()), is_empty: true };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
    is_empty: bool,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let space = if std::mem::take(&mut self.is_empty) { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.writer, "{space}{value}"),
            name => write!(self.writer, "{space}{name}={value}"),
        };
        self.result = self.result.and(written);
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match is_plain(&text) {
            true => self.add(field, format_args!("{text}")),
            false => self.add(field, format_args!("{text:?}")),
        }
    }
}

/// Whether a text cannot be taken for more than one value: it has no control characters, and nothing after a space that
/// looks like the name of a field. Names of fields that a plugin adds begin with `plugin.`, and no others do.
fn is_plain(text: &str) -> bool {
    let is_name = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        let plain =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
        name.is_some_and(|name| plain(name) && !name.starts_with("plugin."))
    };
    !text.contains(char::is_control) && !text.split_whitespace().skip(1).any(is_name)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written for an event.
    fn logged(event: impl FnOnce()) -> String {
        let output = Output::default();
        let writer = output.clone();
        let lines = tracing_subscriber::fmt().fmt_fields(Fields).with_ansi(false).without_time();
        let lines = lines.with_target(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(lines, event);
        let bytes = output.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_reads_as_before() {
        let line = logged(|| {
            let error = "no such file: /a b (os error 2)";
            tracing::error!(mount = "/restic", %error, count = 3, none = None::<&str>, "it failed");
        });
        assert_eq!(
            line,
            "ERROR it failed mount=\"/restic\" error=no such file: /a b (os error 2) count=3\n"
        );
        let line = logged(|| tracing::info!(mount = "/x", "{}", "stored plugin.key=\"a b\""));
        assert_eq!(line, " INFO stored plugin.key=\"a b\" mount=\"/x\"\n");
    }

    #[test]
    fn what_others_wrote_makes_no_lines_and_no_fields() {
        for text in [
            "a\nERROR forged",
            "a\r\u{1b}[2Jb",
            "a mount=/restic",
            "a\tmount=\"/restic\"",
            "a\u{85}b",
            "a\u{2028}mount=/restic",
            "a plugin.key=\"x mount=y\"",
        ] {
            let quoted = format!("{text:?}");
            let line = logged(|| tracing::info!(error = %text, "said"));
            assert_eq!(line, format!(" INFO said error={quoted}\n"));
            let line = logged(|| tracing::info!("{text}"));
            assert_eq!(line, format!(" INFO {quoted}\n"));
            let line = logged(|| tracing::info!(text, "said"));
            assert_eq!(line, format!(" INFO said text={quoted}\n"));
            let line = logged(|| tracing::info!(text = ?Some(text), "said"));
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
