//! The process that compiles plugins: this program, or `keepgate-plugin`, started again with a command of its own.

use std::ffi::OsString;

use keepgate_runtime::Compiler;

/// The command. Nobody else has a use for it, so no help shows it.
const COMMAND: &str = "compile-plugin";

/// How to start it.
pub fn process() -> Compiler {
    // Not its path: the file may have been replaced by a newer version since this process was started, and that one's
    // code would not run here.
    Compiler::new("/proc/self/exe".into(), [OsString::from(COMMAND)])
}

/// The arguments of this process, if it is one that compiles. The command line is read here, before anything else is done
/// that such a process needs not.
pub fn arguments() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == COMMAND).then(|| arguments.collect())
}
