//! `environment`: settings, clock, randomness, log and metrics.

use std::time::SystemTime;

use crate::contract::{environment, timestamp};
use crate::state::State;

/// The most random bytes that one call hands out.
const MAX_RANDOM: u32 = 65_536;
/// The longest message that a plugin gets into the log, in bytes.
const MAX_MESSAGE: usize = 8192;

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
        let (mount, plugin) = (&*self.grants.mount, &*self.grants.plugin);
        let mut message = shorten(&message).to_owned();
        for (name, value) in &fields {
            message.push_str(&format!(" {}={:?}", shorten(name), shorten(value)));
        }
        if let Some(surroundings) = &self.grants.services.surroundings {
            surroundings.logged(name(level), &message);
        }
        match level {
            Level::Trace => tracing::trace!(target: "plugin", mount, plugin, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", mount, plugin, "{message}"),
            Level::Info => tracing::info!(target: "plugin", mount, plugin, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", mount, plugin, "{message}"),
            Level::Error => tracing::error!(target: "plugin", mount, plugin, "{message}"),
        }
        Ok(())
    }

    fn count(&mut self, metric: String, labels: Vec<String>, by: u64) -> wasmtime::Result<()> {
        let counted = self.grants.counters.count(&self.grants.mount, &metric, &labels, by);
        if let Some(surroundings) = &self.grants.services.surroundings {
            let refused = counted.as_ref().err().map(ToString::to_string);
            surroundings.counted(&metric, &labels, by, refused.as_deref());
        }
        if let Err(why) = counted {
            let (mount, plugin) = (&*self.grants.mount, &*self.grants.plugin);
            tracing::warn!(mount, plugin, metric, "a plugin's count was dropped: {why}");
        }
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

/// At most [`MAX_MESSAGE`] bytes, cut between characters.
fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}
