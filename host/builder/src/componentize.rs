//! The component builders of JavaScript and Python: componentize-qjs from npm and componentize-py from PyPI.
//! They are found in the project, in the cache that all projects share, or on the `PATH`. On request, the
//! pinned version is installed into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::language::Language;
use crate::process::{find, note, output, words};
use crate::{debian, files, project, sections};

const NPM_PACKAGE: &str = include_str!("../../../sdk/js/toolchain/package.json");
const NPM_LOCK: &str = include_str!("../../../sdk/js/toolchain/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../../sdk/python/toolchain/requirements.txt");
/// A file written last, so that an interrupted installation is repeated.
const COMPLETE: &str = "complete";

/// The builder of a language.
struct Known {
    /// The name of the program and of its package.
    program: &'static str,
    /// The version that was tested; a test compares it with the files above.
    version: &'static str,
    /// Where the program is in the folder of an installation.
    installed: &'static str,
    /// Where a project has programs of its own.
    own: &'static str,
    /// The command that installs it in a project; `VERSION` stands for the version.
    by_hand: &'static str,
    /// The size of the download.
    size: &'static str,
}

const QJS: Known = Known {
    program: "componentize-qjs",
    version: "0.4.5",
    installed: "node_modules/.bin",
    own: "node_modules/.bin",
    by_hand: "npm install --save-dev componentize-qjs@VERSION",
    size: "40 MB by npm",
};
const PY: Known = Known {
    program: "componentize-py",
    version: "0.25.1",
    installed: "bin",
    own: ".venv/bin",
    by_hand: "python3 -m venv .venv && .venv/bin/pip install componentize-py==VERSION",
    size: "72 MB by pip",
};

impl Known {
    fn of(language: Language) -> Result<Self> {
        match language {
            Language::JavaScript => Ok(QJS),
            Language::Python => Ok(PY),
            Language::Rust => bail!("Rust is compiled by cargo"),
        }
    }

    /// Its folder in the cache. Each version has its own.
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join("languages").join(format!("{}-{}", self.program, self.version))
    }
}

/// An installed builder.
#[derive(Debug)]
pub struct Componentizer {
    language: Language,
    program: PathBuf,
}

impl Componentizer {
    /// Finds the builder for a project: its own, the one in `cache`, or the first on the `PATH`. If there is
    /// none, installs it into `cache` if that is allowed; otherwise the error says in one line how to get it.
    pub fn find(
        language: Language,
        folder: &Path,
        cache: &Path,
        may_install: bool,
    ) -> Result<Self> {
        let known = Known::of(language)?;
        // The builder of JavaScript needs node at each build; the one of Python needs nothing else.
        if language == Language::JavaScript {
            require("node", "nodejs", language)?;
        }
        let own = folder.join(known.own).join(known.program);
        let found = [own].into_iter().find(|own| own.is_file());
        let found = found.or_else(|| in_cache(&known, cache)).or_else(|| find(known.program));
        let Some(program) = found else {
            ensure!(may_install, how_to_get(&known, folder, cache));
            return Self::install(language, cache);
        };
        let program = std::path::absolute(&program)?;
        if let Some(version) = version(language, &program)
            && version != known.version
        {
            note(&format!(
                "{} is version {version}; the tested version is {}",
                program.display(),
                known.version
            ));
        }
        Ok(Self { language, program })
    }

    /// The pinned builder in `cache`. The package manager of the language installs it if necessary.
    pub fn install(language: Language, cache: &Path) -> Result<Self> {
        let known = Known::of(language)?;
        if language == Language::JavaScript {
            require("node", "nodejs", language)?;
        }
        let folder = known.folder(cache);
        let toolchains = cache.join("languages");
        fs::create_dir_all(&toolchains).with_context(|| toolchains.display().to_string())?;
        let _lock = files::lock(&toolchains.join("xtask.lock"))?;
        if let Some(program) = in_cache(&known, cache) {
            return Ok(Self { language, program });
        }
        let (name, version, size) = (known.program, known.version, known.size);
        note(&format!("installing {name} {version} into {}: {size}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        match language {
            Language::JavaScript => install_qjs(&folder),
            Language::Python | Language::Rust => install_py(&folder),
        }
        .with_context(|| format!("cannot install {name}"))?;
        fs::write(folder.join(COMPLETE), version)?;
        let program = folder.join(known.installed).join(name);
        Ok(Self { language, program })
    }

    /// The path of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The pinned version: components have to be built again when it changes.
    pub fn version(&self) -> &'static str {
        Known::of(self.language).map_or("", |known| known.version)
    }

    /// Builds the component of a project. For mistakes in its sources, the error is the builder's message.
    pub fn build(&self, folder: &Path, component: &Path) -> Result<()> {
        let main = folder.join(self.language.main_file());
        if !main.is_file() {
            bail!("{} is missing; the component is built from it", main.display());
        }
        project::add_sdk(self.language, folder)?;
        let contract = project::contract_of(folder);
        let made = component.with_extension("new");
        let mut command = Command::new(&self.program);
        match self.language {
            Language::JavaScript => {
                // Only the synchronous engine runs on hosts without the async features of the component
                // model. The contract provides everything that WASI would.
                command.args(["--sync", "--stub-wasi", "--world", project::WORLD_NAME, "--wit"]);
                command.arg(&contract).arg("--module-root").arg(folder);
                command.arg("--js").arg(&main);
            }
            Language::Python | Language::Rust => {
                // WASI stays: without it, Python's hashes and random numbers would be the same in each
                // instance. The host grants nothing through it.
                command.args(["--quiet", "--world", project::WORLD_NAME, "--wit-path"]);
                command.arg(&contract).arg("componentize").arg("--python-path").arg(folder);
                command.arg("plugin");
                // It would take packages of another project from there.
                command.env_remove("VIRTUAL_ENV");
            }
        }
        // The stack trace of the builder does not help authors of plugins.
        command.env("RUST_BACKTRACE", "0").env_remove("RUST_LIB_BACKTRACE");
        let ended = command.arg("--output").arg(&made).stdin(Stdio::null()).output();
        let ended = ended.with_context(|| format!("cannot start {}", self.program.display()))?;
        if !ended.status.success() {
            let said = mistake(&String::from_utf8_lossy(&ended.stderr));
            let (main, command) = (main.display(), words(&command));
            ensure!(!said.is_empty(), "`{command}` failed ({}) without a message", ended.status);
            bail!("cannot build a component of {main}:\n{said}");
        }
        let mut bytes = fs::read(&made).with_context(|| made.display().to_string())?;
        sections::embed(&mut bytes, folder)?;
        fs::write(&made, bytes).with_context(|| made.display().to_string())?;
        fs::rename(&made, component).with_context(|| component.display().to_string())
    }
}

/// The pinned builder, if it is installed completely.
fn in_cache(known: &Known, cache: &Path) -> Option<PathBuf> {
    let folder = known.folder(cache);
    let program = folder.join(known.installed).join(known.program);
    (folder.join(COMPLETE).exists() && program.exists()).then_some(program)
}

/// How to get a builder, in one line.
fn how_to_get(known: &Known, folder: &Path, cache: &Path) -> String {
    let (program, size, shown) = (known.program, known.size, folder.display());
    let (by_hand, cache) = (known.by_hand.replace("VERSION", known.version), cache.display());
    format!(
        "{program} is not installed; get it with `keepgate plugin build {shown} --install` ({size}, once, \
         into {cache}), or only for this plugin with `{by_hand}` in {shown}"
    )
}

/// The version of a builder, if it can be determined.
fn version(language: Language, program: &Path) -> Option<String> {
    if language == Language::JavaScript {
        // A link to a file two folders below the root of the package.
        let file = program.canonicalize().ok()?;
        let package = file.ancestors().nth(2)?.join("package.json");
        let package: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(package).ok()?).ok()?;
        return package.get("version")?.as_str().map(str::to_owned);
    }
    let said = output(Command::new(program).arg("--version")).ok()?;
    said.split_whitespace().last().map(str::to_owned)
}

/// The part of a builder's message that is about the plugin's sources.
fn mistake(said: &str) -> String {
    const STACK: &str = "\nStack backtrace:";
    const CAUSES: &str = "\n\nCaused by:";
    let said = said.split_once(STACK).map_or(said, |(said, _)| said);
    // componentize-py wraps it in an error of its own.
    let said = said.split_once("\nAssertionError: ").map_or(said, |(_, said)| said);
    let said = said.strip_prefix("Error: : ").unwrap_or(said);
    let said = said.split_once(CAUSES).map_or(said, |(said, _)| said);
    let said = said.strip_prefix("Failed to evaluate user JavaScript module: ").unwrap_or(said);
    let said = said.strip_prefix("Failed to declare JavaScript module: ").unwrap_or(said);
    // The folder of the sources during the build.
    said.replace("\"/0/", "\"").trim().to_owned()
}

fn install_qjs(folder: &Path) -> Result<()> {
    require("npm", "npm", Language::JavaScript)?;
    fs::write(folder.join("package.json"), NPM_PACKAGE)?;
    fs::write(folder.join("package-lock.json"), NPM_LOCK)?;
    let mut command = Command::new("npm");
    // `npm ci` would require packages for every platform, and not every mirror has all of them. `npm install`
    // checks packages against the lock file as well.
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    output(&mut command).map(drop).map_err(|error| anyhow!(first_errors(&format!("{error:#}"))))
}

/// The first two errors of npm's output.
fn first_errors(said: &str) -> String {
    let errors = said.lines().filter_map(|line| line.strip_prefix("npm error ")).take(2);
    let errors: Vec<&str> = errors.collect();
    if errors.is_empty() { said.to_owned() } else { format!("npm says {}", errors.join(": ")) }
}

fn install_py(folder: &Path) -> Result<()> {
    require("python3", "python3 python3-venv", Language::Python)?;
    output(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .with_context(|| format!("`{}` may help", debian::advice(&["python3-venv"])))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut command = Command::new(folder.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    output(command.arg(requirements)).map(drop)
}

fn require(program: &str, packages: &str, language: Language) -> Result<()> {
    if find(program).is_none() {
        let (advice, title) = (debian::advice(&[packages]), language.title());
        bail!(
            "plugins in {title} need {program}; get it with `{advice}` as root, or from its project"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_versions_match_the_lock_files() {
        let lock: serde_json::Value = serde_json::from_str(NPM_LOCK).unwrap();
        let locked = &lock["packages"]["node_modules/componentize-qjs"];
        assert_eq!(locked["version"], QJS.version);
        assert!(locked["integrity"].is_string());
        let package: serde_json::Value = serde_json::from_str(NPM_PACKAGE).unwrap();
        assert_eq!(package["dependencies"]["componentize-qjs"], QJS.version);
        assert_eq!(REQUIREMENTS.trim(), format!("{}=={}", PY.program, PY.version));
    }

    #[test]
    fn missing_programs_are_reported_in_one_line() {
        let error = require("no-such-program", "such-package", Language::Python).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("such-package") && !text.contains('\n'), "{text}");
        for known in [QJS, PY] {
            let text = how_to_get(&known, Path::new("hello"), Path::new("/cache"));
            for part in ["keepgate plugin build hello --install", known.version, "/cache"] {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains('\n') && !text.contains("VERSION"), "{text}");
        }
    }

    #[test]
    fn the_projects_own_builder_comes_before_the_shared_one() {
        let (project, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |file: PathBuf| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        };
        let find = || {
            let (project, cache) = (project.path(), cache.path());
            Componentizer::find(Language::Python, project, cache, false).map(|it| it.program)
        };
        let shared = PY.folder(cache.path());
        put(shared.join("bin/componentize-py"));
        // It may also be on the `PATH`.
        assert!(find().ok().is_none_or(|program| !program.starts_with(cache.path())), "half of it");
        put(shared.join(COMPLETE));
        assert_eq!(find().unwrap(), shared.join("bin/componentize-py"));
        let own = project.path().join(".venv/bin/componentize-py");
        put(own.clone());
        assert_eq!(find().unwrap(), own);
    }

    #[test]
    fn an_error_is_the_authors_and_not_the_builders() {
        let said =
            "`npm install` failed:\nnpm error code E404\nnpm error 404 Not Found\nnpm error more";
        assert_eq!(first_errors(said), "npm says code E404: 404 Not Found");
        assert_eq!(first_errors("no npm"), "no npm");
        let said = "Traceback (most recent call last):\n  File \"/bin/componentize-py\", line 8\n\
                    AssertionError:   File \"/0/plugin.py\", line 76\n    x = = 1\n\
                    SyntaxError: invalid syntax\n\n\nCaused by:\n    SyntaxError\n\
                    \nStack backtrace:\n   0: builder";
        assert_eq!(
            mistake(said),
            "File \"plugin.py\", line 76\n    x = = 1\nSyntaxError: invalid syntax"
        );
        assert_eq!(mistake("Error: : no\n    at /plugin.js:7:9\n\n"), "no\n    at /plugin.js:7:9");
        assert_eq!(mistake(""), "");
    }
}
