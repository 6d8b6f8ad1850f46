//! Creates and builds plugins: templates of new projects, finding compilers, compiling, and wrapping
//! core modules into components. `cargo xtask` builds this workspace's guests with it; `keepgate plugin
//! new` and `build` use it for everybody else's. The callers decide what is built and where it goes.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`language`] | the supported languages |
//! | [`project`] | what a new plugin consists of: template, cases, SDK |
//! | [`plugin`] | from a folder of sources in any of the languages to a component |
//! | [`componentize`] | the component builders of JavaScript and Python |
//! | [`toolchain`] | a Rust compiler for WebAssembly, from rustup or Debian |
//! | [`rustup`] | the active toolchain and its targets |
//! | [`workspace`] | what cargo knows about a workspace |
//! | [`component`] | from a crate to a component |
//! | [`sections`] | files beside the sources that become sections of the component |
//! | [`files`] | replaces files that a gateway watches |
//! | [`process`], [`debian`] | runs programs; installs packages |

mod cargo_home;
pub mod component;
pub mod componentize;
pub mod debian;
pub mod files;
pub mod language;
pub mod plugin;
pub mod process;
pub mod project;
pub mod rustup;
pub mod sections;
mod system;
pub mod toolchain;
pub mod workspace;
