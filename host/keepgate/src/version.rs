//! Version and build of this program. `build.rs` determines commit and compiler.

/// Version and build.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("KEEPGATE_COMMIT"),
    ", contract ",
    keepgate_runtime::contract_version!(),
    ", ",
    env!("KEEPGATE_COMPILER"),
    ")"
);
