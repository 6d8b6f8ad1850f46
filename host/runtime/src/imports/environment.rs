//! `environment`: settings, clock, randomness, log and metrics.

use std::time::SystemTime;

use crate::contract::{environment, timestamp};
use crate::state::State;
use crate::voice::{Gate, push_escaped, shorten};

/// The most random bytes that one call hands out.
const MAX_RANDOM: u32 = 65_536;
/// The longest message that a plugin gets into the log, in bytes.
const MAX_MESSAGE: usize = 8192;
/// The longest name of a field or a metric in the log, in bytes.
const MAX_NAME: usize = 256;
/// A line of so many bytes gets no further field.
const MAX_LINE: usize = 2 * MAX_MESSAGE;

impl environment::Host for State {
    fn settings(&mut self) -> wasmtime::Result<String> {
        Ok(self.grants.settings.clone())
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        self.note("environment.now", |_| String::new());
        let told = self.grants.services.surroundings.as_ref().map(|told| told.now());
        Ok(timestamp(told.unwrap_or_else(SystemTime::now)))
    }

    fn random(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM {
            return Err(wasmtime::Error::msg(format!(
                "environment.random: {length} bytes asked, {MAX_RANDOM} allowed"
            )));
        }
        self.note("environment.random", |_| length.to_string());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match &self.grants.services.surroundings {
            Some(told) => told.random(&mut bytes),
            None => getrandom::fill(&mut bytes)
                .map_err(|error| wasmtime::Error::msg(error.to_string()))?,
        }
        Ok(bytes)
    }

    fn log(
        &mut self,
        level: environment::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        use environment::Level;
        if let Some(surroundings) = &self.grants.services.surroundings {
            surroundings.logged(name(level), &line(&message, &fields));
        }
        // What nobody reads takes no room from what somebody does.
        let read = match level {
            Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
            Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
            Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
            Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        };
        if !read {
            return Ok(());
        }
        let line = line(&message, &fields);
        if !self.may_say(line.len()) {
            return Ok(());
        }
        let (mount, plugin) = (&*self.grants.mount, &*self.grants.plugin);
        let request = self.request.as_deref();
        let job = self.job.as_ref().map(|job| &*job.id);
        match level {
            Level::Trace => {
                tracing::trace!(target: "plugin", mount, plugin, request, job, "{line}");
            }
            Level::Debug => {
                tracing::debug!(target: "plugin", mount, plugin, request, job, "{line}");
            }
            Level::Info => tracing::info!(target: "plugin", mount, plugin, request, job, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", mount, plugin, request, job, "{line}"),
            Level::Error => {
                tracing::error!(target: "plugin", mount, plugin, request, job, "{line}");
            }
        }
        Ok(())
    }

    fn count(&mut self, metric: String, labels: Vec<String>, by: u64) -> wasmtime::Result<()> {
        let counted = self.grants.metrics.count(&self.grants.mount, &metric, &labels, by);
        if let Some(surroundings) = &self.grants.services.surroundings {
            surroundings.counted(&metric, &labels, by, counted.as_ref().err().map(String::as_str));
        }
        self.tell_dropped(&metric, counted);
        Ok(())
    }

    fn set(&mut self, metric: String, labels: Vec<String>, value: f64) -> wasmtime::Result<()> {
        let set = self.grants.metrics.set(&self.grants.mount, &metric, &labels, value);
        if let Some(surroundings) = &self.grants.services.surroundings {
            surroundings.set(&metric, &labels, value, set.as_ref().err().map(String::as_str));
        }
        self.tell_dropped(&metric, set);
        Ok(())
    }
}

/// As it is written in logs.
fn name(level: environment::Level) -> &'static str {
    use environment::Level;
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

impl State {
    /// What a plugin wanted to say by a metric, and could not, is for whoever wrote the plugin.
    fn tell_dropped(&self, metric: &str, done: Result<(), String>) {
        if let Err(why) = done
            && self.may_say(why.len())
        {
            let (mount, plugin) = (&*self.grants.mount, &*self.grants.plugin);
            let metric = shorten(metric, MAX_NAME);
            tracing::warn!(
                mount,
                plugin,
                ?metric,
                "a plugin's value of a metric was dropped: {why}"
            );
        }
    }

    /// Whether the plugin may have a line of so many bytes in the log just now. Where it may not, a
    /// line of the gateway's says so now and then.
    fn may_say(&self, bytes: usize) -> bool {
        let voice = &self.grants.voice;
        let dropped = match voice.gate.ask(bytes) {
            Gate::Open => return true,
            Gate::Shut => None,
            Gate::Tell(dropped) => Some(dropped),
        };
        voice.dropped.inc();
        if let Some(dropped) = dropped {
            let (mount, plugin) = (&*self.grants.mount, &*self.grants.plugin);
            tracing::warn!(
                mount,
                plugin,
                dropped,
                "the plugin logs more than it may; lines of it are dropped"
            );
        }
        false
    }
}

/// A message with its fields, as one line of bounded length.
fn line(message: &str, fields: &[(String, String)]) -> String {
    let mut line = String::new();
    push_escaped(&mut line, shorten(message, MAX_MESSAGE));
    for (name, value) in fields {
        if line.len() >= MAX_LINE {
            line.push_str(" ...");
            break;
        }
        line.push(' ');
        push_escaped(&mut line, shorten(name, MAX_NAME));
        // Quoted, so that control characters are escaped here too.
        line.push_str(&format!("={:?}", shorten(value, MAX_MESSAGE)));
    }
    line
}
