//! The gateway is killed and started again between batches, and under many clients at once: what was acknowledged is there,
//! and nothing is there twice.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;

use keepgate_tests::databacker::exporter::{Dropped, Exporter};
use keepgate_tests::databacker::logs::{Logger, line};
use keepgate_tests::databacker::otlp::Span;
use keepgate_tests::databacker::spans::Run;
use keepgate_tests::gateway::Gateway;
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

use super::{Admin, Instance, below_mount, mounted};

#[test]
fn a_restart_between_batches_loses_nothing_and_doubles_nothing() {
    let mounted = mounted("", "");
    let mut gateway = mounted.setup.start();
    let instance = Admin::ann(&gateway).register(&mounted);
    let run = Run::example(12_345);
    let [first, second, root] = run.batches();
    let send = |gateway: &Gateway, batch: &[Span]| {
        Exporter::new(&instance.traces(gateway.port())).export(batch).unwrap();
    };
    let lines = [line(&run.id, "info", "beginning dump", 1)];
    send(&gateway, &first);
    let posted = Logger::start(&instance.logs(gateway.port())).unwrap().post(&lines).unwrap();
    let log = below_mount(&posted);
    gateway.program.kill();
    drop(gateway);

    gateway = mounted.setup.start();
    send(&gateway, &second);
    send(&gateway, &first);
    let again = Logger::start(&instance.logs(gateway.port())).unwrap().post(&lines).unwrap();
    assert_eq!(below_mount(&again), log);
    gateway.stop();

    let mut gateway = mounted.setup.start();
    send(&gateway, &root);
    gateway.program.kill();
    drop(gateway);

    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    gateway.eventually("the run has ended", |_| {
        admin.runs(&instance).first().is_some_and(|run| run["status"] == "ok")
    });
    send(&gateway, &root);
    let runs = admin.runs(&instance);
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!((runs[0]["id"].as_str(), runs[0]["bytes"].as_u64()), (Some(&*run.id), Some(12_345)));
    let whole = admin.get(&format!("/admin/runs/{}", run.id));
    assert_eq!(whole["phases"].as_array().unwrap().len(), run.spans().len(), "{whole}");
    assert_eq!(admin.send("GET", &log, "").text().lines().count(), 1);
    gateway.stop();
}

const INSTANCES: u64 = 200;
/// How many batches are acknowledged before the gateway is killed: a part of the 600.
const BEFORE: usize = 150;

/// Where the gateway is; none while it is down.
#[derive(Default)]
struct Place {
    port: Mutex<Option<u16>>,
    changed: Condvar,
}

impl Place {
    fn set(&self, port: Option<u16>) {
        *self.port.lock().unwrap() = port;
        self.changed.notify_all();
    }

    fn wait(&self) -> u16 {
        let port = self.port.lock().unwrap();
        let waited = self.changed.wait_timeout_while(port, LONG, |port| port.is_none());
        waited.unwrap().0.expect("the gateway does not come back")
    }
}

/// Sends all batches of a run, each until it is acknowledged.
fn report(instance: &Instance, run: &Run, place: &Place, acknowledged: impl Fn()) {
    let mut port = place.wait();
    let mut exporter = Exporter::new(&instance.traces(port));
    for batch in run.batches() {
        loop {
            match exporter.export(&batch) {
                Ok(_) => break acknowledged(),
                Err(Dropped::Lost(_)) => {}
                Err(Dropped::Refused(answer)) => panic!("{answer:?}"),
            }
            // A gateway that was just killed may still be the one that is known.
            let now = place.wait();
            if now == port {
                thread::yield_now();
                continue;
            }
            port = now;
            exporter = Exporter::new(&instance.traces(port));
        }
    }
}

#[test]
fn two_hundred_instances_report_while_the_gateway_is_killed() {
    let _turn = tools::one_at_a_time();
    let mounted = mounted("", "");
    let mut gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let clients: Vec<(Instance, Run)> =
        (0..INSTANCES).map(|at| (admin.register(&mounted), Run::example(1000 + at))).collect();
    let place = Place::default();
    let (count, (enough, wait)) = (AtomicUsize::new(0), mpsc::channel());
    place.set(Some(gateway.port()));
    gateway = thread::scope(|scope| {
        for (instance, run) in &clients {
            let (place, count, enough) = (&place, &count, enough.clone());
            scope.spawn(move || {
                report(instance, run, place, || {
                    if count.fetch_add(1, Ordering::Relaxed) + 1 == BEFORE {
                        enough.send(()).unwrap();
                    }
                });
            });
        }
        drop(enough);
        wait.recv_timeout(LONG).expect("the clients get through");
        place.set(None);
        gateway.program.kill();
        drop(gateway);
        let gateway = mounted.setup.start();
        place.set(Some(gateway.port()));
        gateway
    });
    assert_eq!(count.load(Ordering::Relaxed), 3 * clients.len());

    let admin = Admin::ann(&gateway);
    let mut seen = HashSet::new();
    for (instance, run) in &clients {
        gateway.eventually("the run has ended", |_| {
            admin.runs(instance).first().is_some_and(|run| run["status"] == "ok")
        });
        let runs = admin.runs(instance);
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert_eq!(
            (&runs[0]["id"], &runs[0]["bytes"]),
            (&run.id.clone().into(), &run.bytes().into())
        );
        assert!(seen.insert(run.id.clone()));
    }
    let spans = clients[0].1.spans().len();
    for (_, run) in clients.iter().step_by(20) {
        let whole = admin.get(&format!("/admin/runs/{}", run.id));
        assert_eq!(whole["phases"].as_array().unwrap().len(), spans, "{whole}");
    }
    gateway.stop();
}
