//! The languages that plugins are written in here. One more is a case of [`Language`], a template and
//! an SDK in `project`, and a builder.

use std::path::Path;
use std::str::FromStr;

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// By cargo, and wrapped here.
    Rust,
    /// QuickJS, by componentize-qjs.
    JavaScript,
    /// CPython, by componentize-py.
    Python,
}

impl Language {
    /// All of them; the first is what a new plugin is written in where nobody says otherwise.
    pub const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// As `--lang` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// As people name it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }

    /// The file that the language's builder begins with, below the project's folder.
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

/// There is no such language.
#[derive(Debug)]
pub struct UnknownLanguage(String);

impl std::fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Language::ALL.map(Language::name).join(", ");
        write!(f, "there is no template for {:?}; there are {known}", self.0)
    }
}

impl std::error::Error for UnknownLanguage {}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Takes the names that people try, too.
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
