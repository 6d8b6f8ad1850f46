//! `test`: runs all steps in order and prints one line that sums them up. To add a step, add a line to
//! [`STEPS`] and a function.

use std::env;
use std::fs::{self, File};
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::tally::Tally;
use keepgate_builder::process;
use keepgate_builder::workspace::Workspace;

use crate::{components, guests, languages, protoc, run};

/// A step: its name, whether `--fast` skips it, and its function.
type Step = (&'static str, bool, fn(&mut Check<'_>) -> Result<()>);

const STEPS: [Step; 8] = [
    ("fmt", true, formatting),
    ("clippy", true, lints),
    ("guests", false, components_of_wasm),
    ("build", false, programs),
    ("languages", false, components_of_languages),
    ("components", false, real_components),
    ("doc", true, documentation),
    ("test", false, tests),
];

/// The command line of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    fast: bool,
    only: Vec<String>,
    filter: Option<String>,
    /// Arguments for the test programs.
    arguments: Vec<String>,
}

impl Options {
    /// Reads the command line after `test`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--fast" => options.fast = true,
                "--only" => {
                    let names = step_names().collect::<Vec<_>>().join(", ");
                    let step =
                        rest.next().with_context(|| format!("--only needs a step: {names}"))?;
                    ensure!(
                        step_names().any(|name| name == step),
                        "unknown step `{step}`; the steps are {names}"
                    );
                    options.only.push(step.clone());
                }
                "--" => options.arguments.extend(rest.by_ref().cloned()),
                flag if flag.starts_with('-') => {
                    bail!(
                        "unknown flag `{flag}`; write `-- {flag}` to pass it to the test programs"
                    )
                }
                filter if options.filter.is_none() => options.filter = Some(filter.to_owned()),
                second => bail!("only one filter is allowed, `{second}` is a second one"),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str, slow: bool) -> bool {
        if self.only.is_empty() {
            !(self.fast && slow)
        } else {
            self.only.iter().any(|n| n == name)
        }
    }
}

/// The names of the steps, in order.
pub(crate) fn step_names() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().map(|(name, ..)| name)
}

/// Shared by all steps.
struct Check<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    tally: Tally,
}

/// Runs the steps until one fails. The last line is the sum.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> ExitCode {
    let mut check = Check { workspace, options, tally: Tally::default() };
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut code = ExitCode::SUCCESS;
    for (name, slow, step) in STEPS {
        if !options.wants(name, slow) {
            continue;
        }
        let begin = Instant::now();
        let result = step(&mut check);
        times.push(format!("{name} {}", seconds(begin.elapsed())));
        if let Err(error) = result {
            process::step(&format!("FAILED in step `{name}`: {error:#}"));
            // A failed step counts as a failure, so that the sum never looks like success.
            check.tally.failed = check.tally.failed.max(1);
            code = ExitCode::FAILURE;
            break;
        }
    }
    process::step(&format!("took {}; {} in all", times.join(", "), seconds(begin.elapsed())));
    println!("{}", check.tally);
    code
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn formatting(check: &mut Check<'_>) -> Result<()> {
    process::step("fmt");
    let mut command = check.workspace.cargo("fmt");
    process::run(command.args(["--all", "--check"])).context("run `cargo fmt --all`")
}

fn lints(check: &mut Check<'_>) -> Result<()> {
    process::step("clippy");
    let mut command = protoc::cargo(check.workspace, "clippy")?;
    command.args(["--release", "--workspace", "--all-targets"]).args(check.workspace.locked());
    process::run(command.args(["--", "-D", "warnings"]))
}

fn components_of_wasm(check: &mut Check<'_>) -> Result<()> {
    guests::build(check.workspace, true)
}

fn components_of_languages(check: &mut Check<'_>) -> Result<()> {
    // The step before this one builds them with the tests.
    if !check.options.wants("build", false) {
        run::build_program(check.workspace, run::PLUGIN_TOOLS)?;
    }
    let skipped = languages::build(check.workspace)?;
    check.tally.skipped += u64::try_from(skipped.len())?;
    Ok(())
}

fn real_components(check: &mut Check<'_>) -> Result<()> {
    process::step("components");
    let skipped = components::install(check.workspace);
    check.tally.skipped += u64::try_from(skipped.len())?;
    Ok(())
}

fn programs(check: &mut Check<'_>) -> Result<()> {
    run::build_program(check.workspace, run::GATEWAY)?;
    run::build_tests(check.workspace)
}

fn documentation(check: &mut Check<'_>) -> Result<()> {
    process::step("doc");
    let mut command = protoc::cargo(check.workspace, "doc")?;
    command.args(["--release", "--workspace", "--no-deps"]).args(check.workspace.locked());
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests(check: &mut Check<'_>) -> Result<()> {
    process::step("test");
    let mut command = protoc::cargo(check.workspace, "test")?;
    // The other test programs run even if one fails.
    command.args(["--release", "--workspace", "--no-fail-fast"]).args(check.workspace.locked());
    command.args(&check.options.filter);
    if !check.options.arguments.is_empty() {
        command.arg("--").args(&check.options.arguments);
    }
    run::environment(check.workspace, &mut command);
    // libtest hides the output of tests that pass, so they report skipped checks in a file.
    let skips = env::temp_dir().join(format!("keepgate-skips-{}", std::process::id()));
    File::create(&skips).with_context(|| skips.display().to_string())?;
    command.env("KEEPGATE_SKIP_FILE", &skips);

    let before = check.tally.failed;
    let status = process::stream(&mut command, &mut io::stdout(), |line| {
        check.tally.observe(line);
    });
    let skipped = fs::read_to_string(&skips).with_context(|| skips.display().to_string());
    fs::remove_file(&skips).with_context(|| skips.display().to_string())?;
    for line in skip_lines(&skipped?) {
        process::note(&line);
        check.tally.skipped += 1;
    }
    if !status?.success() {
        ensure!(check.tally.failed == before, "tests failed, see above");
        bail!(
            "no test failed, but cargo did: something does not compile, or a test program crashed"
        );
    }
    ensure!(check.tally.passed > 0, "no test ran; is there a test with this name?");
    Ok(())
}

/// The lines that tests wrote, each starting with `skipped: `.
fn skip_lines(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("skipped: {}", line.strip_prefix("skipped:").unwrap_or(line).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_read() {
        let options = parse(&["restic", "--fast", "--", "--nocapture", "--fast"]).unwrap();
        assert_eq!(options.filter.as_deref(), Some("restic"));
        assert!(options.fast);
        assert_eq!(options.arguments, ["--nocapture", "--fast"]);
        assert_eq!(parse(&[]).unwrap(), Options::default());
    }

    #[test]
    fn unknown_arguments_are_named_in_the_error() {
        for (words, named) in [
            (["--only", "clipy"].as_slice(), "clipy"),
            (&["--only"], "clippy"),
            (&["--nocapture"], "-- --nocapture"),
            (&["one", "two"], "two"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn fast_and_only_choose_the_steps() {
        let chosen = |words: &[&str]| {
            let options = parse(words).unwrap();
            let steps = STEPS.into_iter().filter(|(name, slow, _)| options.wants(name, *slow));
            steps.map(|(name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]), step_names().collect::<Vec<_>>());
        assert_eq!(chosen(&["--fast"]), ["guests", "build", "languages", "components", "test"]);
        assert_eq!(chosen(&["--only", "test", "--only", "fmt"]), ["fmt", "test"]);
    }

    #[test]
    fn skip_lines_have_one_form() {
        let lines: Vec<_> = skip_lines("skipped: no curl\n\n  no LXD \n").collect();
        assert_eq!(lines, ["skipped: no curl", "skipped: no LXD"]);
    }
}
