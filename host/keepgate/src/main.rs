//! The program `keepgate`. Everything it does is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepgate::main()
}
