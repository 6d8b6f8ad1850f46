//! Plugins in JavaScript and Python: what a new one consists of, and building one. Rust's are built
//! by `guests.rs`. This folder knows nothing of the workspace, so that other programs can have it.
//! Another language is another [`Language`], with a folder below sdk/ and a builder in `toolchain.rs`.

mod project;
mod stock;
mod toolchain;

use std::path::Path;

pub(crate) use project::create;
pub(crate) use stock::{build as build_stock, stock_files};
pub(crate) use toolchain::Toolchain;

/// A language that plugins are written in, other than Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    /// QuickJS, by componentize-qjs.
    JavaScript,
    /// CPython, by componentize-py.
    Python,
}

impl Language {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::JavaScript, Self::Python];

    /// As `--lang` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// The file of a project that the component is made of, with all that it imports.
    pub(crate) fn main_file(self) -> &'static str {
        match self {
            Self::JavaScript => "plugin.js",
            Self::Python => "plugin.py",
        }
    }

    /// The language of the project in a folder, by its main file.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|language| folder.join(language.main_file()).is_file())
    }
}
