//! The supported languages. To add one, add a case to [`Language`], a template and an SDK to `project`, and
//! a builder to `componentize`.

use std::path::Path;
use std::str::FromStr;

/// A language for plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Compiled by cargo, wrapped into a component here.
    Rust,
    /// Runs in QuickJS, built by componentize-qjs.
    JavaScript,
    /// Runs in CPython, built by componentize-py.
    Python,
}

impl Language {
    /// All languages. The first is the default for new plugins.
    pub const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// The name for `--lang`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }

    /// The main file of a project, relative to its folder.
    pub fn main_file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "plugin.js",
            Self::Python => "plugin.py",
        }
    }

    /// The language of the project in a folder, by its main file.
    pub fn of(folder: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|language| folder.join(language.main_file()).is_file())
    }
}

/// An unknown language.
#[derive(Debug)]
pub struct UnknownLanguage(String);

impl std::fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Language::ALL.map(Language::name).join(", ");
        write!(f, "unknown language {:?}; the languages are {known}", self.0)
    }
}

impl std::error::Error for UnknownLanguage {}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Accepts common alternative names, too.
    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        match text {
            "rust" | "rs" => Ok(Self::Rust),
            "js" | "javascript" => Ok(Self::JavaScript),
            "python" | "py" => Ok(Self::Python),
            other => Err(UnknownLanguage(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_language() {
        for language in Language::ALL {
            assert_eq!(language.name().parse::<Language>().unwrap(), language);
        }
        let error = "cobol".parse::<Language>().unwrap_err().to_string();
        assert!(error.contains("\"cobol\"") && error.contains("rust, js, python"), "{error}");
    }

    #[test]
    fn a_folder_has_the_language_of_its_main_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Language::of(folder.path()), None);
        std::fs::write(folder.path().join("plugin.py"), "").unwrap();
        assert_eq!(Language::of(folder.path()), Some(Language::Python));
    }
}
