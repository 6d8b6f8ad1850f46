//! `environment`: settings, clock, randomness, log and metrics.

use std::time::SystemTime;

use wasmtime::component::{HasSelf, Linker};

use keepgate_core::one_line;

use super::definition::Capability;
use super::jobs::RunningJob;
use crate::contract::timestamp;
use crate::guest_log::shorten;
use crate::guest_state::GuestState;

use bindings::keepgate::plugin::environment;

crate::contract::bindings! {
    interface: "environment",
    // None of them waits, so they need no fiber switch.
    imports: { default: trappable },
}

/// The most random bytes that one call returns.
const MAX_RANDOM: u32 = 65_536;
/// The longest log message, in bytes.
const MAX_MESSAGE: usize = 8192;
/// The longest name of a field or metric in the log, in bytes.
const MAX_NAME: usize = 256;
/// What is before the names of a plugin's fields in the log, so that none of them can look like one of the gateway's.
const PREFIX: &str = "plugin.";
/// A line of this many bytes gets no more fields.
const MAX_LINE: usize = 2 * MAX_MESSAGE;

/// See the module.
pub(crate) struct Environment;

impl Capability for Environment {
    fn interface(&self) -> &'static str {
        "environment"
    }

    fn purpose(&self) -> &'static str {
        "settings, clock, random numbers, log and metrics"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("environment.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        environment::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }
}

impl environment::Host for GuestState {
    fn settings(&mut self) -> wasmtime::Result<String> {
        Ok(self.mount.settings.clone())
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        self.note("environment.now", |_| String::new());
        let hooks = self.mount.hooks.as_ref();
        Ok(timestamp(hooks.map_or_else(SystemTime::now, |hooks| hooks.now())))
    }

    fn random(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM {
            return Err(wasmtime::Error::msg(format!(
                "environment.random: {length} bytes asked, {MAX_RANDOM} allowed"
            )));
        }
        self.note("environment.random", |_| length.to_string());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match &self.mount.hooks {
            Some(hooks) => hooks.random(&mut bytes),
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
        if let Some(hooks) = &self.mount.hooks {
            hooks.logged(name(level), &line(&message, "", &fields));
        }
        // Lines below the log level do not count towards the rate limit.
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
        let line = line(&message, PREFIX, &fields);
        if !self.mount.log.admits(line.len()) {
            return Ok(());
        }
        let (mount, plugin) = (&*self.mount.path, &*self.mount.plugin);
        let request = self.request.as_deref();
        let job = self.call.get::<RunningJob>().map(|job| &*job.id);
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
        let counted = self.mount.metrics.count(&metric, &labels, by);
        if let Some(hooks) = &self.mount.hooks {
            hooks.counted(&metric, &labels, by, counted.as_ref().err().map(String::as_str));
        }
        self.log_dropped(&metric, counted);
        Ok(())
    }

    fn set(&mut self, metric: String, labels: Vec<String>, value: f64) -> wasmtime::Result<()> {
        let set = self.mount.metrics.set(&metric, &labels, value);
        if let Some(hooks) = &self.mount.hooks {
            hooks.set(&metric, &labels, value, set.as_ref().err().map(String::as_str));
        }
        self.log_dropped(&metric, set);
        Ok(())
    }
}

/// The name of a level.
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

impl GuestState {
    /// Logs, for the plugin's author, that a metric's value was dropped.
    fn log_dropped(&self, metric: &str, done: Result<(), String>) {
        if let Err(why) = done
            && self.mount.log.admits(why.len())
        {
            let (mount, plugin) = (&*self.mount.path, &*self.mount.plugin);
            let metric = shorten(metric, MAX_NAME);
            tracing::warn!(mount, plugin, ?metric, reason = why, "metric value dropped");
        }
    }
}

/// A message with its fields, as one line of bounded length; `prefix` comes before the name of each field.
fn line(message: &str, prefix: &str, fields: &[(String, String)]) -> String {
    let mut line = one_line(shorten(message, MAX_MESSAGE)).into_owned();
    for (name, value) in fields {
        if line.len() >= MAX_LINE {
            line.push_str(" ...");
            break;
        }
        line.push(' ');
        line.push_str(prefix);
        line.push_str(&one_line(shorten(name, MAX_NAME)));
        // Quoted, so that control characters are escaped here too.
        line.push_str(&format!("={:?}", shorten(value, MAX_MESSAGE)));
    }
    line
}
