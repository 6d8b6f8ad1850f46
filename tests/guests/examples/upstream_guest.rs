//! Sends to upstreams what its requests say, and reports or hands on what comes back. It does nothing wrong: it shows
//! what the host does.

use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, Options};
use keepgate_sdk::upstreams::{self, Request as Upstream};
use keepgate_sdk::{
    Description, Failure, Jobs, Method, Part, Plugin, PutOptions, Reply, Request, Store,
};
use serde::de::IgnoredAny;

/// The plugin.
#[derive(Debug)]
pub struct UpstreamGuest;

keepgate_sdk::export!(UpstreamGuest, jobs);

impl Plugin for UpstreamGuest {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        let description = Description::new("upstream_guest", "1.0.0").store("main");
        ["fetch", "push"].into_iter().fold(description, Description::job)
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let path = request.path();
        match (&request.method, path.as_slice()) {
            (Method::Get, ["names"]) => Reply::ok().json(&upstreams::names()),
            (Method::Get, ["check", upstream, target]) => {
                Upstream::get(&format!("/{target}")).check(upstream)?;
                Reply::ok().json(&"allowed")
            }
            // What comes back, with its bytes in the host's hands.
            (Method::Get, ["through", upstream, target]) => {
                let exchange = Upstream::get(&format!("/{target}")).send(upstream)?;
                let kind = exchange.header("content-type").unwrap_or_default();
                let reply = Reply::new(exchange.status()).header("content-type", &kind);
                let body = exchange.body()?;
                if exchange.body().is_ok() {
                    return Err(Failure::Internal("the body was there twice".to_owned()));
                }
                Ok(reply.body(body))
            }
            // The request's own body, with its bytes in the host's hands.
            (Method::Put, ["through", upstream, target]) => {
                let (upstream, target) = ((*upstream).to_owned(), format!("/{target}"));
                let exchange = Upstream::new("PUT", &target)
                    .header("x-guest", "1")
                    .answer_within(Duration::from_secs(50))
                    .silent_for(Duration::from_secs(50))
                    .max_body(1000)
                    .body(request.body)
                    .send(&upstream)?;
                Ok(Reply::new(exchange.status()).body(exchange.body()?))
            }
            (Method::Post, [kind, upstream]) => {
                let id = jobs::start(kind, upstream.as_bytes(), &Options::new(""))?;
                Ok(Reply::new(202).text(id))
            }
            _ => Err(Failure::NotFound),
        }
    }
}

impl Jobs for UpstreamGuest {
    fn check_job(_: &str, _: &[u8], _: &IgnoredAny) -> Result<String, String> {
        Ok(String::new())
    }

    fn run_job(job: Job, _: IgnoredAny) -> Result<Vec<u8>, Failure> {
        let upstream = String::from_utf8_lossy(&job.input).into_owned();
        let store = Store::open("main")?;
        match job.kind.as_str() {
            "fetch" => {
                // A message between, which is not what the job is about.
                let status = Upstream::get("/status").send(&upstream)?.json::<u64>(9)?;
                let exchange = Upstream::get("/export").resume().send(&upstream)?;
                store.put("export", exchange.body()?, &PutOptions::replace())?;
                Ok(status.to_string().into_bytes())
            }
            _ => {
                let export = store.get("export", Part::Whole)?;
                let import = Upstream::new("PUT", "/import").body(export.data);
                Ok(import.send(&upstream)?.status().to_string().into_bytes())
            }
        }
    }
}
