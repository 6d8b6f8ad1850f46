//! Version and build of this program. `build.rs` determines commit and compiler.

/// Version and build.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("KEEPGATE_COMMIT"),
    ", contract 0.1.0, ",
    env!("KEEPGATE_COMPILER"),
    ")"
);
