//! Many instances of databacker with their runs: how fast they come in, and how long lists and pages take then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepgate_tests::client::Endpoint;
use keepgate_tests::databacker::oauth::Key;
use keepgate_tests::databacker::spans::{Run, request};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;
use prost::Message as _;
use serde_json::{Value, json};

use crate::client::Target;
use crate::load::{Plan, Request};
use crate::machine::resident;
use crate::measure::{Round, Series, percentile};
use crate::servers::Peer;
use crate::table::{Aim, Better, Row};
use crate::{Bench, Section};

const MOUNT: &str = "/databacker";
/// Whom tokens are for.
const URL: &str = "https://backup.example.org/databacker";
/// `bench:benchpassword`.
const LOGIN: &str = "Basic YmVuY2g6YmVuY2hwYXNzd29yZA==";
/// Runs of each instance.
const RUNS: usize = 10;
/// Clients that send at the same time.
const CLIENTS: usize = 8;
/// Lists and pages are to take no longer, in milliseconds.
const AIM: f64 = 100.0;
const SECOND: Duration = Duration::from_secs(1);

/// Measures a gateway that is filled with runs.
pub(crate) async fn instances(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("databacker: instances with ten runs each");
    let count = bench.scale.instances;
    let settings = format!(
        "secrets.seal = {{ name = \"databacker\", keys = [\"seal.key\"] }}\nwarm = true\n[mount.settings]\nurl = \"{URL}\"\n\
         administrators = [{{ name = \"bench\" }}]\n"
    );
    let setup = Setup::new()
        .user("bench", "benchpassword")
        .accepting_any(&["users", "plugin"])
        .mount(MOUNT, "databacker", &settings);
    std::fs::write(setup.path("seal.key"), "a key that seals what a benchmark keeps")?;
    setup.install("databacker", &tools::plugin("databacker"));
    let gateway = setup.start();
    let mut taken = fill(&gateway, count)?;
    taken.sort_by(f64::total_cmp);
    let row = |name: &str, part| Row::alone(name, "ms", percentile(&taken, part) * 1e3);
    section.rows.push(row(&format!("traces of a run, {CLIENTS} clients, median"), 0.5));
    section.rows.push(row("  99 of 100 within", 0.99));

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.port()));
    let (target, pid) = (Target { address, tls: None }, gateway.program.id());
    let list =
        gateway.as_user("bench", "benchpassword").get(&format!("{MOUNT}/admin/instances?limit=1"));
    let list: Value = list.json();
    let one = list.pointer("/0/id").and_then(Value::as_str).context("no instance is listed")?;
    for (name, path) in [
        ("list of 100 instances", "/admin/instances?limit=100".to_owned()),
        ("list of 1000 instances", "/admin/instances?limit=1000".to_owned()),
        ("runs of an instance", format!("/admin/instances/{one}/runs")),
        ("page of 100 instances", "/ui/".to_owned()),
        ("page of an instance", format!("/ui/instances/{one}")),
    ] {
        let requests = [Request::get_any(&format!("{MOUNT}{path}")).header("Authorization", LOGIN)];
        let mut rounds = Vec::new();
        for round in 0..=bench.scale.rounds {
            let plan = Plan { requests: &requests, once: false, clients: 1, time: SECOND / 4 };
            let measured = plan.run_against(&target, Some(pid)).await.context(path.clone())?;
            // The first round warms up.
            if round > 0 {
                rounds.push(measured);
            }
        }
        let all = [Series { peer: Peer::Keepgate, rounds }];
        let each = |round: &Round| round.seconds / round.requests as f64 * 1e3;
        let row = Row::medians(name, "ms", Better::Less, &all, each);
        section.rows.push(row.aim(Aim::AtMost(AIM)));
        let [series] = &all;
        let cpu = series.cpu_per_request() / 1e3;
        section.rows.push(Row::alone("  CPU time of the server", "ms", cpu));
        section.keep(name.to_owned(), all.to_vec());
    }
    section.rows.push(Row::alone("resident memory", "MiB", resident(pid)? / 1024.0));
    section.notes.push(format!("{count} instances, {} runs", count * RUNS));
    gateway.stop();
    Ok(section)
}

/// Registers instances and sends their runs. Returns how long each run took to be taken, in seconds.
fn fill(gateway: &Gateway, count: usize) -> Result<Vec<f64>> {
    let (next, taken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        let (admin, instance) = (gateway.as_user("bench", "benchpassword"), gateway.endpoint());
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let times = one(&admin, &instance)?;
            taken.lock().map_err(|_| anyhow::anyhow!("a client has panicked"))?.extend(times);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        let ended = clients.into_iter().map(|client| {
            client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client has panicked")))
        });
        ended.collect::<Result<Vec<()>>>()
    })?;
    taken.into_inner().map_err(|_| anyhow::anyhow!("a client has panicked"))
}

/// Registers an instance and sends its runs, each as one batch.
fn one(admin: &Endpoint, instance: &Endpoint) -> Result<Vec<f64>> {
    let key = Key::generate();
    let body = json!({"publicKey": key.public_key(), "name": "bench"}).to_string();
    let json = [("content-type", "application/json")];
    let made = admin.send("POST", &format!("{MOUNT}/admin/instances"), &json, body.as_bytes());
    ensure!(made.status == 201, "registering: {} {}", made.status, made.text());
    let made: Value = made.json();
    let id = made.get("id").and_then(Value::as_str).context("an instance without an id")?;
    let bearer = format!("Bearer {}", key.assertion(id, URL, 3000));
    let headers = [("content-type", "application/x-protobuf"), ("authorization", bearer.as_str())];
    let path = format!("{MOUNT}/engines/telemetry/{id}/traces");
    let mut times = Vec::new();
    for number in 0..RUNS {
        let mut run = Run::example(1 << 30);
        let back = u32::try_from(number).unwrap_or(u32::MAX);
        run.start -= 3600 * SECOND * back;
        let batch = request(run.spans()).encode_to_vec();
        let begun = Instant::now();
        let reply = instance.send("POST", &path, &headers, &batch);
        ensure!(reply.status == 200, "a trace: {} {}", reply.status, reply.text());
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(times)
}
