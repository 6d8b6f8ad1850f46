//! The process that compiles one component: from standard input to standard output.
//!
//! It limits itself before it reads anything, and is the first to be ended if the machine runs out of memory.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use super::{CPU_SECONDS, MEMORY};
use crate::engine::{self, Code, Execution, Memory};
use crate::error::MAX_FILE;

/// How much it makes way for others: they get three times as much of the processors.
const NICE: i32 = 5;
/// The exit code if the component does not compile.
pub(super) const REFUSED: i32 = 3;

/// The arguments that say for which kind of engine to compile, and whether with a lower priority.
pub(super) fn arguments(execution: Execution, background: bool) -> [OsString; 3] {
    let code = match execution.code {
        Code::Native => "native",
        Code::Interpreted => "interpreted",
    };
    let memory = match execution.memory {
        Memory::Pooled => "pooled",
        Memory::Modest => "modest",
    };
    let priority = if background { "background" } else { "foreground" };
    [code.into(), memory.into(), priority.into()]
}

fn read(arguments: &[OsString]) -> Option<(Execution, bool)> {
    let [code, memory, priority] = arguments else { return None };
    let code = match code.to_str()? {
        "native" => Code::Native,
        "interpreted" => Code::Interpreted,
        _ => return None,
    };
    let memory = match memory.to_str()? {
        "pooled" => Memory::Pooled,
        "modest" => Memory::Modest,
        _ => return None,
    };
    Some((Execution { code, memory }, priority == "background"))
}

/// Compiles what arrives on standard input, and writes the code to standard output, or to standard error why there is none.
pub fn main(arguments: &[OsString]) -> ExitCode {
    limit();
    let done = match read(arguments) {
        Some((execution, background)) => {
            if background {
                let _ = nice(NICE);
            }
            compile(execution)
        }
        None => Err("this command is for the gateway itself".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::from(u8::try_from(REFUSED).unwrap_or(1))
        }
    }
}

/// Best effort: where the system forbids one of these, the others still hold.
fn limit() {
    let at_most = |most| Rlimit { current: Some(most), maximum: Some(most) };
    // Whoever asked may be killed.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = setrlimit(Resource::Data, at_most(MEMORY));
    let _ = setrlimit(Resource::Cpu, at_most(CPU_SECONDS));
    let _ = setrlimit(Resource::Core, at_most(0));
    let _ = std::fs::write("/proc/self/oom_score_adj", "800");
}

fn compile(execution: Execution) -> Result<(), String> {
    let mut wasm = Vec::new();
    io::stdin().take(MAX_FILE).read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = engine::for_compiling(execution).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}"))?;
    let mut out = io::stdout().lock();
    out.write_all(&code).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        for code in [Code::Native, Code::Interpreted] {
            for memory in [Memory::Pooled, Memory::Modest] {
                for background in [false, true] {
                    let wanted = (Execution { code, memory }, background);
                    assert_eq!(read(&arguments(wanted.0, wanted.1)), Some(wanted));
                }
            }
        }
        assert_eq!(read(&["native".into()]), None);
    }
}
