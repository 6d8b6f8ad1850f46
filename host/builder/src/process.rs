//! Runs other programs and prints progress to standard output: `==> ` starts a step, lines indented by four
//! spaces belong to it.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Prints the start of a step.
pub fn step(what: &str) {
    tell(&format!("==> {what}\n"));
}

/// Prints a line about the current step.
pub fn note(what: &str) {
    tell(&format!("    {what}\n"));
}

/// Progress messages are not the result: a closed pipe does not end the work.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Runs a command with our standard streams. An error names the command and its exit status.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output. If it fails, its standard error becomes part of the
/// error.
pub fn output(command: &mut Command) -> Result<String> {
    let (status, said, complaint) = quietly(command)?;
    ensure!(status.success(), "`{}` failed ({status}):\n{}", words(command), complaint.trim_end());
    Ok(said)
}

/// Like [`output`], for commands that may print errors on either stream.
pub fn output_of_both(command: &mut Command) -> Result<String> {
    let (status, said, complaint) = quietly(command)?;
    let both = format!("{said}{complaint}");
    ensure!(status.success(), "`{}` failed ({status}):\n{}", words(command), both.trim_end());
    Ok(said)
}

/// The exit status of a command, its standard output and its standard error.
fn quietly(command: &mut Command) -> Result<(ExitStatus, String, String)> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status, text(&output.stdout), text(&output.stderr)))
}

/// Runs a command, copies its standard output to `out` as it arrives, and passes each line to `observe`.
/// Its standard error is ours.
pub fn stream(
    command: &mut Command,
    out: &mut impl Write,
    mut observe: impl FnMut(&str),
) -> Result<ExitStatus> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.with_context(|| cannot_start(command))?;
    let pipe = child.stdout.take().context("no pipe from the command that was just started")?;
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        out.write_all(&line)?;
        out.flush()?;
        observe(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(child.wait()?)
}

/// Runs a command and kills it after `limit`. The error is one short line.
pub fn within(limit: Duration, mut command: Command) -> Result<(), String> {
    let name = words(&command);
    let mut piped = || -> io::Result<_> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        Ok((reader, command.spawn()?))
    };
    let (mut reader, mut child) = piped().map_err(|error| format!("`{name}`: {error}"))?;
    // Drops the writing end of the pipe, which the command holds; otherwise the reader would never end.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        // A broken pipe only shortens the error message.
        let _ = reader.read_to_end(&mut said);
        let _ = sender.send(said);
    });
    let Ok(said) = receiver.recv_timeout(limit) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("`{name}` took longer than {} s", limit.as_secs()));
    };
    let status = child.wait().map_err(|error| format!("`{name}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(cause(&String::from_utf8_lossy(&said), &name)) }
}

/// The first line that contains `error`, or else the last line that is not empty, truncated.
fn cause(said: &str, command: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.starts_with("error"));
    match error.or_else(|| lines.next_back()) {
        Some(line) => line.chars().take(160).collect(),
        None => format!("`{command}` failed without a message"),
    }
}

/// The path of a program, if it is in a folder of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&path).map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// The command as people would type it, without quoting.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_quiet_command_ends_at_its_limit() {
        let error = within(Duration::from_millis(100), shell("exec sleep 600")).unwrap_err();
        assert!(error.contains("took longer"), "{error}");
    }

    #[test]
    fn the_cause_of_a_failure_is_found_in_either_stream() {
        let minute = Duration::from_secs(60);
        let error = within(minute, shell("echo one; echo two >&2; echo; exit 3")).unwrap_err();
        assert_eq!(error, "two");
        let error = within(minute, shell("echo error: one; echo two >&2; exit 3")).unwrap_err();
        assert_eq!(error, "error: one");
        let error = within(minute, shell("exit 3")).unwrap_err();
        assert!(error.contains("without a message"), "{error}");
        within(minute, shell("echo fine")).unwrap();
    }

    #[test]
    fn every_line_is_observed_even_without_a_last_newline() {
        let (mut out, mut lines) = (Vec::new(), Vec::new());
        let mut command = shell("printf 'a\\nb'; exit 4");
        let status = stream(&mut command, &mut out, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(status.code(), Some(4));
        assert_eq!((out, lines), (b"a\nb".to_vec(), vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn errors_name_the_command() {
        let error = run(&mut shell("exit 3")).unwrap_err();
        assert!(error.to_string().contains("`sh -c exit 3`"), "{error}");
        let error = output(&mut shell("echo why >&2; exit 3")).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        let both = output_of_both(&mut shell("echo here; echo there >&2; exit 3")).unwrap_err();
        assert!(both.to_string().ends_with("here\nthere"), "{both}");
        let error = run(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"), "{error}");
    }
}
