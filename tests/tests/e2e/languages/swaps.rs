//! A plugin in one of these languages is replaced while clients use it, and no request fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keepgate_tests::component::tagged;
use keepgate_tests::data::{Blob, sha256};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

use super::{Language, wait_long};

pub(super) fn no_request_fails(language: Language, setup: &Setup, gateway: &Gateway) {
    let (stop, client) = (AtomicBool::new(false), gateway.endpoint());
    let name = language.archive();
    let component = tools::guest(&name);
    let (requests, failed) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (client, stop) = (&client, &stop);
                scope.spawn(move || {
                    let mut connection = client.connect();
                    let blob = Blob::new(number, 20_000).bytes();
                    let path = format!("/archive/load-{number}");
                    let (mut requests, mut failed) = (0, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        for (method, body, status) in
                            [("PUT", blob.as_slice(), 201), ("GET", b"", 200), ("DELETE", b"", 204)]
                        {
                            let reply = connection.send(method, &path, &[], body).unwrap();
                            let is_whole = method != "GET" || reply.body == blob;
                            if reply.status != status || !is_whole {
                                failed.push(format!("{method}: {} {}", reply.status, reply.text()));
                            }
                            requests += 1;
                        }
                    }
                    (requests, failed)
                })
            })
            .collect();
        for swap in 0..language.swaps {
            let other = tagged(&component, swap);
            let from = gateway.program.stderr.count();
            setup.install(&name, &other);
            let digest = sha256(other.as_slice());
            wait_long(gateway, from, &["plugin loaded", &digest[..12]]);
            gateway.program.stderr.wait_for(from, &["serving", "generation="]);
        }
        stop.store(true, Ordering::Relaxed);
        let done = clients.into_iter().map(|client| client.join().unwrap());
        done.fold((0, Vec::new()), |(requests, mut all), (more, failed)| {
            all.extend(failed);
            (requests + more, all)
        })
    });
    assert!(failed.is_empty(), "{failed:#?}");
    tools::report(&format!(
        "languages: {name}: replaced {} times, 0 of {requests} requests failed",
        language.swaps
    ));
}
