//! Starts jobs, sets gauges and takes a snapshot as its requests say, and reports what the host tells it of requests and
//! jobs. It does nothing wrong: it shows what the host does.

use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, Options, State, WhenBusy};
use keepgate_sdk::{
    Body, Description, Failure, Jobs, Method, Plugin, PutOptions, Reply, Request, Store,
    environment,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct JobGuest;

keepgate_sdk::export!(JobGuest, jobs);

/// The form of a POST to a kind of job.
#[derive(Deserialize)]
struct Wish {
    key: String,
    attempts: u32,
    /// Milliseconds from now.
    delay: Option<u64>,
    /// Milliseconds.
    backoff: Option<u64>,
    finally: Option<String>,
    when_busy: Option<String>,
}

impl Plugin for JobGuest {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        let description = Description::new("job_guest", "1.0.0")
            .store("main")
            .cluster("main")
            .gauge("job_guest_level", "What was set last", &["what"])
            .counter("job_guest_calls_total", "Calls", &[]);
        ["work", "fail", "hang", "begin", "tidy"].into_iter().fold(description, Description::job)
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let path = request.path();
        match (&request.method, path.as_slice()) {
            (Method::Get, ["place"]) => {
                let Request { base, target, address, id, .. } = &request;
                let url = request.url(&["a b"]);
                Reply::ok().json(&(base, target, address, id, url))
            }
            (Method::Get, ["gauge", value]) => {
                environment::set("job_guest_level", &["x"], value.parse().unwrap_or(f64::NAN));
                // The host drops each of these, for different reasons.
                environment::set("job_guest_calls_total", &[], 1.0);
                environment::count("job_guest_level", &["x"], 1);
                Ok(Reply::new(204))
            }
            (Method::Get, ["jobs", id]) => {
                let job = jobs::get(id)?;
                let next = job.next.map(|next| next >= environment::now());
                Reply::ok().json(&(job.attempt, job.attempts, next, told(&job)))
            }
            (Method::Post, [kind]) => {
                let wish: Wish = request.form(4096)?;
                Ok(Reply::new(202).text(jobs::start(kind, b"", &options(wish))?))
            }
            _ => Err(Failure::NotFound),
        }
    }
}

fn options(wish: Wish) -> Options {
    let mut options = Options::new(&wish.key).attempts(wish.attempts);
    options = options.when_busy(match wish.when_busy.as_deref() {
        Some("join-queued") => WhenBusy::JoinQueued,
        Some("join") => WhenBusy::Join,
        _ => WhenBusy::Queue,
    });
    if let Some(delay) = wish.delay {
        options = options.not_before(environment::now() + delay * 1_000_000);
    }
    if let Some(backoff) = wish.backoff {
        options = options.backoff(Duration::from_millis(backoff));
    }
    match wish.finally {
        Some(kind) => options.finally(&kind),
        None => options,
    }
}

/// The user for whom a job works, `ann by htpasswd role=admin` for example.
fn told(job: &Job) -> String {
    let Some(principal) = &job.principal else { return "nobody".to_owned() };
    let claims = principal.claims.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{} by {}{}", principal.name, principal.method, claims.collect::<String>())
}

impl Jobs for JobGuest {
    fn run_job(job: Job, _: IgnoredAny) -> Result<Vec<u8>, Failure> {
        match job.kind.as_str() {
            "fail" => Err(Failure::Unavailable("as the test wants".to_owned())),
            "hang" => loop {
                jobs::wait(&job.id, State::Running, 60_000)?;
            },
            // A job that a job starts works for the same user.
            "begin" => jobs::start("work", b"", &Options::new(&job.key)).map(String::into_bytes),
            "tidy" => {
                let id = String::from_utf8(job.input.clone())
                    .map_err(|error| Failure::Invalid(error.to_string()))?;
                let ended = jobs::get(&id)?;
                let said = format!("{:?} for {}: {}", ended.state, told(&job), ended.message);
                let (key, data) = (format!("tidied/{id}"), Body::from_bytes(said.as_bytes()));
                Store::open("main")?.put(&key, data, &PutOptions::replace())?;
                Ok(said.into_bytes())
            }
            _ => {
                Store::open("main")?;
                Ok(told(&job).into_bytes())
            }
        }
    }
}
