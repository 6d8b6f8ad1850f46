//! Takes as much as it can get of what a mount may have besides a store: jobs, records, turns and topics, in the way that
//! the first segment of a path names. `/hello` is honest, to show that other requests are still served.

use std::mem::forget;
use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, Options};
use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::topics::{self, Subscription};
use keepgate_sdk::turns::Turn;
use keepgate_sdk::{Description, Failure, Jobs, Plugin, Reply, Request};
use serde::de::IgnoredAny;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// The plugin.
#[derive(Debug)]
pub struct Grabber;

keepgate_sdk::export!(Grabber, jobs);

impl Plugin for Grabber {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("grabber", "1.0.0").job("sleep")
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let mut numbers = 0_u64..;
        let mut name = || format!("{:06}", numbers.next().unwrap_or_default());
        match request.segments.first().map_or("", String::as_str) {
            "hello" => Ok(Reply::ok().text("hello")),
            "turns" => loop {
                forget(Turn::take(&name(), LONG)?);
            },
            // Waits for what it has itself.
            "turn-twice" => {
                let _turn = Turn::take("mine", LONG)?;
                Turn::take("mine", LONG).map(|_| Reply::ok())
            }
            "subscriptions" => loop {
                forget(Subscription::open(&name())?);
            },
            "publish" => loop {
                topics::publish(&name(), &[b'x'; 60_000])?;
            },
            // What it does not read is dropped.
            "deaf" => {
                let _news = Subscription::open("mine")?;
                loop {
                    topics::publish("mine", &[b'x'; 60_000])?;
                }
            }
            "records" => loop {
                Commit::new().put(&name(), &[b'x'; 200_000]).run()?;
            },
            "empty-records" => loop {
                let put = |commit: Commit, _| commit.put(&format!("empty/{}", name()), b"");
                (0..100).fold(Commit::new(), put).run()?;
            },
            // More than fits into the memory of a guest.
            "all-records" => {
                let keys: Vec<_> = (0..1000).map(|number| format!("large/{number}")).collect();
                for keys in keys.chunks(10) {
                    let put = |commit: Commit, key: &String| commit.put(key, &[b'x'; 60_000]);
                    keys.iter().fold(Commit::new(), put).run()?;
                }
                Ok(Reply::ok().text(records::get_all(&keys)?.len().to_string()))
            }
            "scan" => loop {
                std::hint::black_box(records::scan("").page(1000)?);
            },
            "jobs" => loop {
                jobs::start("sleep", &[b'x'; 60_000], &Options::new(&name()))?;
            },
            "jobs-list" => {
                while jobs::start("sleep", &[b'x'; 60_000], &Options::new(&name())).is_ok() {}
                Ok(Reply::ok().text(jobs::list("sleep", 1000)?.len().to_string()))
            }
            _ => Err(Failure::NotFound),
        }
    }
}

impl Jobs for Grabber {
    fn run_job(_: Job, _: IgnoredAny) -> Result<Vec<u8>, Failure> {
        let _turn = Turn::take("mine", LONG)?;
        Ok(Vec::new())
    }
}
