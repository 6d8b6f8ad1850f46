//! Compiles components in a process of their own. The time and memory that a compiler needs depend on what a component
//! contains in ways that nobody can foresee, and a thread that compiles cannot be stopped; a process can, and it takes its
//! memory with it. `child` is what runs in that process.
//!
//! The process is this program itself, so what it writes is trusted as much as what would be compiled here.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::engine::Execution;
use crate::error::LoadError;
use crate::guest_log::on_one_line;

pub(crate) mod child;

/// The most components that are compiled at once; each takes several processors.
const AT_ONCE: usize = 4;
/// How long a component may take to compile, on a machine that is busy with other things.
pub(crate) const TIME: Duration = Duration::from_secs(300);
/// Processor time that compiling may take, on all processors together, in seconds.
pub(crate) const CPU_SECONDS: u64 = 300;
/// Memory that compiling may take, in bytes.
pub(crate) const MEMORY: u64 = 2 << 30;
/// The most compiled code of a component, in bytes.
const MAX_CODE: u64 = 1 << 30;
/// The longest message of the process, in bytes.
const MAX_MESSAGE: usize = 4096;

/// How to start the process that compiles.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Whether it makes way for others, because something serves meanwhile.
    pub(crate) background: bool,
    slots: Arc<Semaphore>,
}

impl Compiler {
    /// A program that calls [`compile`](crate::compile) when it is started with these arguments, which others follow.
    pub fn new(program: PathBuf, arguments: impl IntoIterator<Item = OsString>) -> Self {
        let (arguments, slots) = (arguments.into_iter().collect(), Semaphore::new(AT_ONCE));
        Self { program, arguments, background: false, slots: Arc::new(slots) }
    }

    /// Compiles a component for an engine of this kind. Dropping the future ends the process.
    pub(crate) async fn compile(
        &self,
        wasm: &[u8],
        execution: Execution,
    ) -> Result<Vec<u8>, CompileError> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(child::arguments(execution, self.background))
            .kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(CompileError::NotStarted)?;
        match timeout(TIME, exchange(child, wasm)).await {
            Ok(Ok(done)) => done.result(),
            Ok(Err(error)) => Err(CompileError::NotStarted(error)),
            Err(_) => Err(CompileError::Refused(LoadError::CompileTime { limit: TIME })),
        }
    }
}

/// Why there is no compiled code.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// It is the component's fault.
    Refused(LoadError),
    /// The system does not let this process start another one.
    NotStarted(std::io::Error),
}

/// What the process said.
struct Done {
    status: ExitStatus,
    code: Vec<u8>,
    message: String,
}

/// Passes the component to the process and reads what it writes.
async fn exchange(mut child: Child, wasm: &[u8]) -> std::io::Result<Done> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut input) = input {
            // If it has ended, its status says why.
            let _ = input.write_all(wasm).await;
        }
    };
    let ((), code, message) =
        tokio::join!(write, all(output, MAX_CODE), all(errors, MAX_MESSAGE as u64));
    let message = String::from_utf8_lossy(&message?).trim().to_owned();
    Ok(Done { status: child.wait().await?, code: code?, message })
}

async fn all(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

impl Done {
    fn result(self) -> Result<Vec<u8>, CompileError> {
        let Self { status, code, message } = self;
        if status.success() {
            return Ok(code);
        }
        let message = on_one_line(message, MAX_MESSAGE);
        let signal = status.signal();
        let is = |one: Signal| signal == Some(one.as_raw());
        Err(CompileError::Refused(if status.code() == Some(child::REFUSED) {
            LoadError::Compile(message)
        } else if is(Signal::XCPU) {
            LoadError::CompileTime { limit: Duration::from_secs(CPU_SECONDS) }
        } else if is(Signal::ABORT) || is(Signal::KILL) || is(Signal::SEGV) {
            // Rust aborts if it cannot allocate; the system kills whoever uses up its memory.
            LoadError::CompileMemory { limit: MEMORY }
        } else {
            LoadError::Compile(format!("the compiler ended with {status}: {message}"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Code, Memory};

    fn shell(script: &str) -> Compiler {
        Compiler::new("/bin/sh".into(), ["-c".into(), script.into()])
    }

    async fn compile(script: &str) -> Result<Vec<u8>, String> {
        let execution = Execution { code: Code::Native, memory: Memory::Pooled };
        shell(script).compile(b"a component", execution).await.map_err(|error| match error {
            CompileError::Refused(error) => error.to_string(),
            CompileError::NotStarted(error) => format!("not started: {error}"),
        })
    }

    #[tokio::test]
    async fn what_the_process_writes_is_the_code_and_how_it_ends_is_told() {
        assert_eq!(compile("cat").await.unwrap(), b"a component");
        for (script, expected) in [
            ("echo 'bad\nsection' >&2; exit 3", "does not compile: bad\\nsection"),
            ("kill -XCPU $$", "takes more than 300 seconds"),
            ("kill -ABRT $$", "needs more than 2 GiB of memory"),
            ("kill -KILL $$", "needs more than 2 GiB of memory"),
            ("echo what >&2; exit 9", "ended with exit status: 9: what"),
        ] {
            let said = compile(script).await.unwrap_err();
            assert!(said.contains(expected), "{script}: {said}");
        }
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_not_the_components_fault() {
        let execution = Execution { code: Code::Native, memory: Memory::Pooled };
        let none = Compiler::new("/no/such/program".into(), []);
        let error = none.compile(b"", execution).await.unwrap_err();
        assert!(matches!(error, CompileError::NotStarted(_)), "{error:?}");
    }
}
