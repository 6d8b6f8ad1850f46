//! Building guests: finding what compiles them, compiling, and wrapping core modules into components.
//! `cargo xtask` builds this workspace's guests by it, and `keepgate plugin build` everybody's.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`toolchain`] | something that compiles Rust to WebAssembly, by rustup or from Debian |
//! | [`workspace`] | what cargo says of a workspace |
//! | [`component`] | from a crate to a component |
//! | [`files`] | replacing files that a gateway watches |
//! | [`process`], [`debian`] | running programs; installing packages |
//!
//! A guest language besides Rust is a module beside [`toolchain`]. What is built and where it goes
//! is said by whoever calls.

#![expect(
    clippy::print_stdout,
    reason = "the part of command-line programs that tells what they build"
)]

pub mod component;
pub mod debian;
pub mod files;
pub mod process;
mod rustup;
mod system;
pub mod toolchain;
pub mod workspace;
