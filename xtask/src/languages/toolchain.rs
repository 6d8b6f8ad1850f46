//! What makes components of JavaScript and Python: npm's componentize-qjs and PyPI's componentize-py,
//! each pinned, in a folder of its own that all clones share. They are installed by the language's own
//! package manager when they are first wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::{Language, project};
use keepgate_builder::process::{find, note, output};
use keepgate_builder::{debian, files};

const NPM_PACKAGE: &str = include_str!("../../../sdk/js/toolchain/package.json");
const NPM_LOCK: &str = include_str!("../../../sdk/js/toolchain/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../../sdk/python/toolchain/requirements.txt");
/// The version of each, for the folder's name: another version is installed beside the old one. A test
/// holds them against the files above.
const QJS: &str = "componentize-qjs-0.4.5";
const PY: &str = "componentize-py-0.25.1";
/// Written last, so that an installation that broke off is done again.
const COMPLETE: &str = "complete";

/// A language's builder, ready to run.
#[derive(Debug)]
pub(crate) struct Toolchain {
    language: Language,
    program: PathBuf,
}

impl Toolchain {
    /// Finds the builder below `cache`, or installs it. The error is one line that says what is missing
    /// and how to get it.
    pub(crate) fn find(language: Language, cache: &Path) -> Result<Self> {
        let (name, program) = match language {
            Language::JavaScript => (QJS, "node_modules/.bin/componentize-qjs"),
            Language::Python => (PY, "bin/componentize-py"),
        };
        let toolchains = cache.join("languages");
        let folder = toolchains.join(name);
        let program = folder.join(program);
        // node is needed at each build, Python's builder needs only itself.
        if language == Language::JavaScript {
            require("node", "nodejs", "plugins in JavaScript")?;
        }
        fs::create_dir_all(&toolchains).with_context(|| toolchains.display().to_string())?;
        let _lock = files::lock(&toolchains.join("xtask.lock"))?;
        if folder.join(COMPLETE).exists() && program.exists() {
            return Ok(Self { language, program });
        }
        note(&format!("installing {name} into {}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        match language {
            Language::JavaScript => install_qjs(&folder),
            Language::Python => install_py(&folder),
        }
        .with_context(|| format!("{name} cannot be installed"))?;
        fs::write(folder.join(COMPLETE), name)?;
        Ok(Self { language, program })
    }

    /// What was installed, for telling whether a component would come out otherwise.
    pub(crate) fn version(&self) -> &'static str {
        match self.language {
            Language::JavaScript => QJS,
            Language::Python => PY,
        }
    }

    /// Makes a component of the project in a folder. What the builder says of an author's mistake is
    /// part of the error.
    pub(crate) fn build(&self, folder: &Path, component: &Path) -> Result<()> {
        let main = folder.join(self.language.main_file());
        if !main.is_file() {
            bail!("{} is missing: it is what the component is made of", main.display());
        }
        project::add_sdk(self.language, folder)?;
        let contract = component.with_extension("wit");
        project::write_contract(&contract)?;
        let made = component.with_extension("new");
        let mut command = Command::new(&self.program);
        match self.language {
            Language::JavaScript => {
                // Of the published engines only the synchronous one runs on hosts without the
                // component model's async. All that WASI would give comes from the contract.
                command.args(["--sync", "--stub-wasi", "--world", project::WORLD_NAME, "--wit"]);
                command.arg(&contract).arg("--module-root").arg(folder);
                command.arg("--js").arg(&main);
            }
            Language::Python => {
                // WASI stays: without it Python's hashes and random numbers would be the same in
                // each instance. The host grants nothing by it.
                command.args(["--quiet", "--world", project::WORLD_NAME, "--wit-path"]);
                command.arg(&contract).arg("componentize").arg("--python-path").arg(folder);
                command.arg("plugin");
                // It would look for packages there, which are not this plugin's.
                command.env_remove("VIRTUAL_ENV");
            }
        }
        let built = output(command.arg("--output").arg(&made));
        fs::remove_dir_all(&contract).with_context(|| contract.display().to_string())?;
        built.map_err(without_host_frames)?;
        fs::rename(&made, component).with_context(|| component.display().to_string())
    }
}

/// Without the builder's own stack, which follows what it says of the author's mistake.
fn without_host_frames(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match text.split_once("\nStack backtrace:") {
        Some((said, _)) => anyhow!("{}", said.trim_end()),
        None => error,
    }
}

fn install_qjs(folder: &Path) -> Result<()> {
    require("npm", "npm", "plugins in JavaScript")?;
    fs::write(folder.join("package.json"), NPM_PACKAGE)?;
    fs::write(folder.join("package-lock.json"), NPM_LOCK)?;
    let mut command = Command::new("npm");
    // `npm ci` would insist on an entry for each platform, and not every mirror has all of them; what
    // the lock names is held to it in any case.
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    output(&mut command).map(drop).map_err(|error| anyhow!(first_errors(&format!("{error:#}"))))
}

/// What npm says went wrong, without the pages that follow.
fn first_errors(said: &str) -> String {
    let errors = said.lines().filter_map(|line| line.strip_prefix("npm error ")).take(2);
    let errors: Vec<&str> = errors.collect();
    if errors.is_empty() { said.to_owned() } else { format!("npm says {}", errors.join(": ")) }
}

fn install_py(folder: &Path) -> Result<()> {
    require("python3", "python3 python3-venv", "plugins in Python")?;
    output(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .with_context(|| format!("`{}` may help", debian::advice(&["python3-venv"])))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut command = Command::new(folder.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    output(command.arg(requirements)).map(drop)
}

fn require(program: &str, packages: &str, purpose: &str) -> Result<()> {
    if find(program).is_none() {
        let advice = debian::advice(&[packages]);
        bail!("{purpose} need {program}; get it by `{advice}` as root, or as its makers say");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_by_what_is_pinned() {
        let lock: serde_json::Value = serde_json::from_str(NPM_LOCK).unwrap();
        let locked = &lock["packages"]["node_modules/componentize-qjs"];
        assert_eq!(QJS, format!("componentize-qjs-{}", locked["version"].as_str().unwrap()));
        assert!(locked["integrity"].is_string());
        let package: serde_json::Value = serde_json::from_str(NPM_PACKAGE).unwrap();
        assert_eq!(package["dependencies"]["componentize-qjs"], locked["version"]);
        assert_eq!(REQUIREMENTS.trim(), PY.replace("py-", "py=="));
    }

    #[test]
    fn a_missing_program_is_said_in_one_line() {
        let error = require("no-such-program", "such-package", "plugins in X").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("such-package") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn an_error_ends_before_the_builders_stack() {
        let said =
            "`npm install` failed:\nnpm error code E404\nnpm error 404 Not Found\nnpm error more";
        assert_eq!(first_errors(said), "npm says code E404: 404 Not Found");
        assert_eq!(first_errors("no npm"), "no npm");
        let error = anyhow!("NameError: x\n\nStack backtrace:\n   0: builder");
        assert_eq!(without_host_frames(error).to_string(), "NameError: x");
    }
}
