//! The program `keepgate`. Everything it does is in the library of this package.

use std::process::ExitCode;

/// Memory that is freed goes back to the system within moments, whichever thread frees it. Of a gigabyte that hostile
/// plugins had made it allocate and free again, glibc's allocator kept all, and this one a tenth (2026-12).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keepgate::main()
}
