//! The languages that plugins can be written in here. One more is a folder of templates below
//! `sdk/templates`, a case with its files, and a builder in `build`.

use std::path::Path;

use clap::ValueEnum;

/// A language, by the name that `--lang` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
}

/// A file of a template: its path in the new folder, and its text with `{{name}}` and `{{sdk}}`.
pub(crate) type TemplateFile = (&'static str, &'static str);

macro_rules! template {
    ($language:literal, $($path:literal from $source:literal),+ $(,)?) => {
        &[$((
            $path,
            include_str!(concat!("../../../../sdk/templates/", $language, "/", $source)),
        )),+]
    };
}

/// Cargo takes any `Cargo.toml` for one of its own, and git any `.gitignore`: in the repository these
/// have other names.
const RUST: &[TemplateFile] = template!("rust",
    "Cargo.toml" from "Cargo.toml.in",
    ".gitignore" from "gitignore",
    "README.md" from "README.md",
    "src/lib.rs" from "src/lib.rs",
    "src/tests.rs" from "src/tests.rs",
);

impl Language {
    /// The files of a new plugin; an error says why there are none.
    pub(crate) fn template(self) -> Result<&'static [TemplateFile], String> {
        match self {
            Self::Rust => Ok(RUST),
            other => Err(other.missing()),
        }
    }

    /// The language of a plugin's sources, by the file that its tools begin with.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let has = |name: &str| folder.join(name).is_file();
        match () {
            () if has("Cargo.toml") => Some(Self::Rust),
            () if has("package.json") => Some(Self::Js),
            () if has("pyproject.toml") => Some(Self::Python),
            () => None,
        }
    }

    /// Why nothing can be done with it yet.
    pub(crate) fn missing(self) -> String {
        let name = match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
        };
        format!(
            "there are no templates and no builder for {name} in this version; a component that its \
             own tools make of `wit/` is served all the same"
        )
    }
}
