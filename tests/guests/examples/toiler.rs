//! Its jobs misbehave; the kind of a job says how.

#![allow(clippy::panic, reason = "traps are its purpose")]

use keepgate_sdk::{Description, Failure, Jobs, Level, Plugin, Reply, Request, environment, jobs};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct Toiler;

keepgate_sdk::export!(Toiler, jobs);

impl Plugin for Toiler {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        let kinds = ["loop", "forever", "trap", "output", "flood", "report", "honest"];
        kinds.into_iter().fold(Description::new("toiler", "1.0.0"), Description::job)
    }

    fn handle(_: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        Ok(Reply::ok().text("at work"))
    }
}

impl Jobs for Toiler {
    fn check_job(kind: &str, _: &[u8], _: &IgnoredAny) -> Result<String, String> {
        match kind {
            "loop" => loop {
                std::hint::black_box(());
            },
            "trap" => panic!("on purpose"),
            "flood" => Err("no ".repeat(1 << 20)),
            _ => Ok(String::new()),
        }
    }

    fn run_job(job: jobs::Job, _: IgnoredAny) -> Result<Vec<u8>, Failure> {
        match job.kind.as_str() {
            "loop" => loop {
                std::hint::black_box(());
            },
            // Never ends, and hardly computes.
            "forever" => loop {
                jobs::wait(&job.id, jobs::State::Running, 1000)?;
            },
            "trap" => panic!("on purpose"),
            "output" => Ok(vec![1; 8 << 20]),
            "flood" => loop {
                environment::log(Level::Error, &"flood ".repeat(100));
            },
            "report" => loop {
                let phase = "x".repeat(1 << 20);
                jobs::report(&jobs::Progress { done: 1, total: None, phase })?;
            },
            _ => Ok(b"done".to_vec()),
        }
    }
}
