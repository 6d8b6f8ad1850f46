//! `fuzz`: runs the properties of what reads bytes from outside for minutes, with new inputs again and again. Each
//! target is a test program `fuzz_NAME` beside the code that reads; `cargo test` tries a few inputs with it. To add
//! one, write the program and add a line to [`TARGETS`].
//!
//! Properties run one at a time, each for an equal part of its target's time, so that a slow one takes nothing from
//! the others. Each round is a process of its own: what aborts, does not end or takes all memory is a failure with a
//! seed, like what breaks an assertion.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use keepgate_builder::process;
use keepgate_builder::workspace::Workspace;

use crate::{guests, protoc, run as programs};

/// A test program of properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    /// As on the command line; the program is `fuzz_NAME`.
    name: &'static str,
    package: &'static str,
}

const TARGETS: [Target; 6] = [
    Target { name: "components", package: "keepgate-runtime" },
    Target { name: "requests", package: "keepgate-http" },
    Target { name: "cases", package: "keepgate-harness" },
    Target { name: "records", package: "keepgate-records" },
    Target { name: "certificates", package: "keepgate-certificates" },
    Target { name: "tokens", package: "keepgate-auth" },
];

/// How long a round should take: short enough to be on time, long enough that starting the process does not matter.
const ROUND: Duration = Duration::from_secs(10);
/// The inputs of a property's first round, which shows how fast it is.
const FIRST_ROUND: u64 = 64;
/// How long a round may take, with the search for a smaller input that fails.
const LIMIT: Duration = Duration::from_secs(180);
/// How long that search may take.
const SHRINKING: Duration = Duration::from_secs(60);
/// The address space of a round in KiB. No input is larger than a few megabytes.
const MEMORY: u64 = 4 << 20;

/// The command line of `fuzz`.
#[derive(Debug, PartialEq)]
struct Options {
    /// For each target.
    time: Duration,
    targets: Vec<Target>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { time: Duration::from_secs(60), targets: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--minutes" {
                let minutes = rest.next().and_then(|minutes| minutes.parse::<f64>().ok());
                let time =
                    minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
                options.time = time
                    .filter(|time| !time.is_zero())
                    .context("--minutes needs a number, such as 10 or 0.5")?;
                continue;
            }
            let Some(target) = TARGETS.into_iter().find(|target| target.name == argument) else {
                bail!("unknown target `{argument}`; the targets are {}", target_names().join(", "));
            };
            if !options.targets.contains(&target) {
                options.targets.push(target);
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.to_vec();
        }
        Ok(options)
    }
}

/// The names of the targets, in order.
pub(crate) fn target_names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

/// What came of all properties.
#[derive(Debug, Default)]
struct Sum {
    properties: u64,
    inputs: u64,
    failed: u64,
}

/// Builds the targets and runs them one after another. All of them run even if one fails.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    // Some of the inputs are plugins with damage.
    guests::build(workspace, false)?;
    let built = build(workspace, &options.targets)?;
    let mut sum = Sum::default();
    for (target, program) in options.targets.iter().zip(&built) {
        let seconds = options.time.as_secs_f64();
        process::step(&format!("fuzz {} for {seconds:.0} s", target.name));
        fuzz(workspace, *target, program, options.time, &mut sum)?;
    }
    let Sum { properties, inputs, failed } = sum;
    process::step(&format!("{properties} properties, {inputs} inputs, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program of a target.
fn program_name(target: Target) -> String {
    format!("fuzz_{}", target.name)
}

/// Builds the programs of these targets, and no others. `--workspace` is for the features of dependencies: they are those
/// of `cargo xtask test`, so that nothing that it has built is built again.
fn build(workspace: &Workspace, targets: &[Target]) -> Result<Vec<PathBuf>> {
    process::step("build the properties");
    let mut command = protoc::cargo(workspace, "test")?;
    command.args([
        "--release",
        "--workspace",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for target in targets {
        command.args(["--test", &program_name(*target)]);
    }
    command.args(workspace.locked()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`{}` failed, see above", process::words(&command));
    let said = String::from_utf8_lossy(&output.stdout);
    let found = |target: &Target| {
        let name = program_name(*target);
        executable(&said, &name).with_context(|| format!("cargo did not say where {name} is"))
    };
    targets.iter().map(found).collect()
}

/// The program that cargo has built for a test, from its messages in JSON.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")?.as_str()? == name;
        let path = message.get("executable")?.as_str()?;
        is_it.then(|| path.into())
    })
}

/// Runs all properties of a target.
fn fuzz(
    workspace: &Workspace,
    target: Target,
    program: &Path,
    time: Duration,
    sum: &mut Sum,
) -> Result<()> {
    let package = workspace.package(target.package).context("the workspace lacks the package")?;
    let listed = process::output(Command::new(program).args(["--list", "--format", "terse"]))?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    ensure!(!names.is_empty(), "{} has no properties", program.display());
    let share = time / u32::try_from(names.len())?;
    let logs = workspace.target.join("fuzz");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    for name in names {
        let log = logs.join(format!("{}-{}.log", target.name, name.replace("::", "-")));
        let folder = &package.folder;
        let property = Property { workspace, target, program, name, folder, log: &log };
        let begin = Instant::now();
        let ran = property.repeat(share)?;
        sum.properties += 1;
        sum.inputs += ran.inputs;
        let (seconds, inputs) = (begin.elapsed().as_secs_f64(), ran.inputs);
        process::note(&format!("{name}: {inputs} inputs in {seconds:.1} s"));
        if let Some(failed) = ran.failed {
            sum.failed += 1;
            property.report(&failed)?;
        }
    }
    Ok(())
}

/// A property that is run again and again.
struct Property<'a> {
    workspace: &'a Workspace,
    target: Target,
    program: &'a Path,
    name: &'a str,
    /// Of its package, where `cargo test` runs it.
    folder: &'a Path,
    /// What the last round prints.
    log: &'a Path,
}

/// What came of a property.
struct Repeated {
    /// In rounds that ended well.
    inputs: u64,
    failed: Option<Failed>,
}

/// A round that failed.
struct Failed {
    how: String,
    seed: u64,
    cases: u64,
}

impl Property<'_> {
    /// Runs rounds until the time is over or one fails.
    fn repeat(&self, time: Duration) -> Result<Repeated> {
        let begin = Instant::now();
        let (mut inputs, mut cases) = (0, FIRST_ROUND);
        loop {
            let seed = seed();
            let started = Instant::now();
            if let Some(how) = self.round(seed, cases)? {
                return Ok(Repeated { inputs, failed: Some(Failed { how, seed, cases }) });
            }
            inputs += cases;
            let left = time.saturating_sub(begin.elapsed());
            match next_round(cases, started.elapsed(), left) {
                Some(next) => cases = next,
                None => return Ok(Repeated { inputs, failed: None }),
            }
        }
    }

    /// Runs one round in a process of its own; says how it failed if it did.
    fn round(&self, seed: u64, cases: u64) -> Result<Option<String>> {
        let log = File::create(self.log).with_context(|| self.log.display().to_string())?;
        let mut command = Command::new("/bin/sh");
        programs::environment(self.workspace, &mut command);
        command
            .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")])
            .arg(self.program)
            .args(["--exact", self.name])
            .current_dir(self.folder)
            .env("PROPTEST_CASES", cases.to_string())
            .env("PROPTEST_RNG_SEED", seed.to_string())
            .env("PROPTEST_MAX_SHRINK_TIME", SHRINKING.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(match within(&mut command, LIMIT)? {
            Some(status) if status.success() => None,
            Some(status) => Some(status.to_string()),
            None => Some(format!("it did not end within {} s", LIMIT.as_secs())),
        })
    }

    /// Prints what a round printed, and how to see it again.
    fn report(&self, failed: &Failed) -> Result<()> {
        let Failed { how, seed, cases } = failed;
        let (target, name) = (self.target, self.name);
        let said = fs::read(self.log).with_context(|| self.log.display().to_string())?;
        print!("{}", String::from_utf8_lossy(&said));
        let program = program_name(target);
        let regressions = self.folder.join("tests").join(format!("{program}.regressions"));
        process::note(&format!(
            "FAILED {}: {name}: {how}; its output is in {}",
            target.name,
            self.log.display()
        ));
        process::note(&format!(
            "an input that broke an assertion is in {}, and is tried first from now on; commit it with the fix",
            regressions.display()
        ));
        process::note("to run the whole round again:");
        process::note(&format!(
            "PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} cargo test --release --workspace --test {program} -- \
             --exact {name}"
        ));
        Ok(())
    }
}

/// How many inputs the next round tries, after one that took `took`; `None` if the time is over.
fn next_round(cases: u64, took: Duration, left: Duration) -> Option<u64> {
    // A process needs some time to start, so the first rounds look slower than they are.
    const STARTING: Duration = Duration::from_millis(200);
    if left < STARTING {
        return None;
    }
    let aim = ROUND.min(left).as_millis();
    let fitting = u128::from(cases) * aim / took.as_millis().max(1);
    let fitting = u64::try_from(fitting).unwrap_or(u64::MAX).min(cases.saturating_mul(16));
    // proptest counts in 32 bits, with several for each input.
    (fitting > 0).then(|| fitting.min(100_000_000))
}

/// A seed that no round has had before.
fn seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// Waits for a command, and kills it at the limit; then there is no status.
fn within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| process::words(command))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_chooses_targets_and_time() {
        let all = parse(&[]).unwrap();
        assert_eq!((all.time.as_secs(), all.targets.len()), (60, TARGETS.len()));
        let some = parse(&["records", "--minutes", "0.5", "cases", "records"]).unwrap();
        let names: Vec<_> = some.targets.iter().map(|target| target.name).collect();
        assert_eq!((some.time.as_secs(), names), (30, vec!["records", "cases"]));
        for (words, named) in [
            (["record"].as_slice(), "certificates"),
            (&["--minutes"], "such as 10"),
            (&["--minutes", "0"], "such as 10"),
            (&["--minutes", "-1"], "such as 10"),
            (&["--seed", "1"], "`--seed`"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn every_target_has_a_program_in_its_package() {
        let workspace = Workspace::load().unwrap();
        for target in TARGETS {
            let package = workspace.package(target.package).unwrap();
            let name = program_name(target);
            assert!(package.targets.iter().any(|target| target.name == name), "{name}");
        }
    }

    #[test]
    fn rounds_grow_to_ten_seconds_and_end_in_time() {
        let seconds = Duration::from_secs;
        assert_eq!(next_round(64, Duration::from_millis(1), seconds(60)), Some(1024));
        assert_eq!(next_round(1000, seconds(5), seconds(60)), Some(2000));
        assert_eq!(next_round(1000, seconds(10), seconds(1)), Some(100));
        assert_eq!(next_round(64, seconds(90), Duration::from_millis(500)), None);
        assert_eq!(next_round(64, seconds(1), Duration::ZERO), None);
    }

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"fuzz_cases"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"fuzz_records"},"executable":"/t/a"}
{"reason":"compiler-artifact","target":{"name":"fuzz_cases"},"executable":"/t/b"}"#;
        assert_eq!(executable(messages, "fuzz_cases"), Some("/t/b".into()));
        assert_eq!(executable(messages, "fuzz_tokens"), None);
    }

    #[test]
    fn rounds_that_fail_or_do_not_end_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let log = folder.path().join("log");
        let target = TARGETS[0];
        let workspace = Workspace::sample(folder.path(), vec![]);
        let property = Property {
            workspace: &workspace,
            target,
            program: Path::new("/bin/echo"),
            name: "a::b",
            folder: folder.path(),
            log: &log,
        };
        assert_eq!(property.round(1, 2).unwrap(), None);
        assert_eq!(fs::read_to_string(&log).unwrap(), "--exact a::b\n");
        fs::write(&program, "#!/bin/sh\necho $PROPTEST_RNG_SEED $PROPTEST_CASES\nexit 3\n")
            .unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let property = Property { program: &program, ..property };
        assert_eq!(property.round(1, 2).unwrap().as_deref(), Some("exit status: 3"));
        assert_eq!(fs::read_to_string(&log).unwrap(), "1 2\n");
        let ran = property.repeat(Duration::from_secs(60)).unwrap();
        assert!(ran.inputs == 0 && ran.failed.is_some_and(|failed| failed.cases == FIRST_ROUND));
        let mut endless = Command::new("/bin/sh");
        endless.args(["-c", "exec sleep 600"]);
        assert_eq!(within(&mut endless, Duration::from_millis(50)).unwrap(), None);
    }
}
