//! Plugins in JavaScript and Python are served like any other: the template of each language, and one
//! that fails in many ways. Each language has one gateway for all its checks, because compiling Python
//! takes seconds. If a component could not be built, the language is skipped and that is reported.

mod archives;
mod faults;
mod imports;
mod offers;
mod swaps;

use std::fs;
use std::time::{Duration, Instant};

use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

/// A language, and how its components are named.
#[derive(Clone, Copy, Debug)]
struct Language {
    /// Suffix of its components' names.
    tag: &'static str,
    name: &'static str,
    /// How many times the template is replaced under load.
    swaps: u64,
}

impl Language {
    fn archive(self) -> String {
        format!("archive-{}", self.tag)
    }

    fn faults(self) -> String {
        format!("faults-{}", self.tag)
    }
}

/// A gateway with the components of a language; `None` if they could not be built.
fn started(language: Language) -> Option<(Setup, Gateway)> {
    let (archive, faults) = (language.archive(), language.faults());
    for name in [&archive, &faults] {
        if tools::find_guest(name).is_none() {
            let what = format!("plugins in {}", language.name);
            tools::skip(&what, "`cargo xtask test` says what is missing to build them");
            return None;
        }
    }
    let setup = Setup::new()
        .mount("/", "restic", "")
        .mount("/archive", &archive, "")
        // Less than the bodies that pass through, so none of them can have entered the plugin.
        .mount("/tight", &archive, "limits = { memory = \"24MiB\" }")
        .mount("/starved", &archive, "limits = { memory = \"1MiB\" }")
        .mount("/warm", &archive, "warm = true")
        .mount(
            "/faults",
            &faults,
            "secrets.hmac = { hook = \"hook\" }\n\
             secrets.seal = { name = \"test\", keys = [\"seal\"] }",
        )
        .mount("/faults-warm", &faults, "warm = true");
    fs::write(setup.path("hook"), "Jefe and fourteen more\n").unwrap();
    fs::write(setup.path("seal"), "of thirty-two characters or more\n").unwrap();
    let gateway = setup.start();
    for name in [&archive, &faults] {
        let from = gateway.program.stderr.count();
        let begun = Instant::now();
        setup.install(name, &tools::guest(name));
        wait_long(&gateway, from, &["plugin loaded", &format!("{name}.wasm")]);
        let took = begun.elapsed();
        let file = fs::metadata(setup.plugin(name)).unwrap().len() >> 10;
        tools::report(&format!(
            "languages: {name}: {file} KiB, compiled and serving in {took:.1?}"
        ));
        gateway.program.stderr.wait_for(from, &["serving", "generation="]);
    }
    Some((setup, gateway))
}

/// Waits for a line that may take as long as compiling on a machine that is busy with other things.
#[track_caller]
fn wait_long(gateway: &Gateway, from: usize, texts: &[&str]) {
    let end = Instant::now() + LONG * 5;
    while let Err(said) = gateway.program.stderr.find(from, &[texts]) {
        assert!(Instant::now() < end, "no line with {texts:?}:\n{said}");
    }
}

/// The median of the durations of something.
fn median(mut what: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            what();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn all_promises(language: Language) {
    let _turn = tools::one_at_a_time();
    let Some((setup, gateway)) = started(language) else { return };
    archives::describe_themselves(language, &gateway);
    archives::are_kept(&gateway);
    archives::pass_without_entering(language, &gateway);
    archives::are_answered_fresh_and_warm(language, &gateway);
    archives::need_some_memory(language, &gateway);
    faults::cost_one_request(&gateway);
    faults::have_their_status(&gateway);
    offers::bodies_are_read_and_made(&gateway);
    offers::the_host_works_on_bodies(&gateway);
    offers::bodies_are_held_to_hashes_and_lengths(&gateway);
    offers::news_reach_subscribers(&gateway);
    offers::stores_say_what_changed(&gateway);
    offers::jobs_run(&gateway);
    offers::keys_stay_in_the_host(&gateway);
    offers::places_are_told(&gateway);
    offers::surroundings_are_the_hosts(&gateway);
    faults::settings_are_refused_in_words(&setup, &gateway);
    if language.tag == "py" {
        imports::work_in_a_running_plugin(&gateway);
    }
    swaps::no_request_fails(language, &setup, &gateway);
    gateway.stop();
}

#[test]
fn javascript() {
    all_promises(Language { tag: "js", name: "JavaScript", swaps: 4 });
}

#[test]
fn python() {
    all_promises(Language { tag: "py", name: "Python", swaps: 1 });
}
