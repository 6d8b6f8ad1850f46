//! Building guests: finding what compiles them, compiling, and wrapping core modules into components;
//! and what a new plugin begins with. `cargo xtask` builds this workspace's guests by it, `keepgate
//! plugin new` and `build` make everybody's.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`language`] | the languages that plugins are written in here |
//! | [`project`] | what a new plugin consists of: template, cases, SDK |
//! | [`plugin`] | from a folder of sources to a component, in any of the languages |
//! | [`componentize`] | what makes components of JavaScript and Python |
//! | [`toolchain`] | something that compiles Rust to WebAssembly, by rustup or from Debian |
//! | [`workspace`] | what cargo says of a workspace |
//! | [`component`] | from a crate to a component |
//! | [`files`] | replacing files that a gateway watches |
//! | [`process`], [`debian`] | running programs; installing packages |
//!
//! What is built and where it goes is said by whoever calls.

pub mod component;
pub mod componentize;
pub mod debian;
pub mod files;
pub mod language;
pub mod plugin;
pub mod process;
pub mod project;
mod rustup;
mod system;
pub mod toolchain;
pub mod workspace;
