//! What makes components of JavaScript and Python: npm's componentize-qjs and PyPI's componentize-py.
//! One of them is found in the project, in the cache that all projects share, or on the `PATH`; the
//! pinned version is installed into the cache where somebody asks for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::language::Language;
use crate::process::{find, note, output, words};
use crate::{debian, files, project, quick_start};

const NPM_PACKAGE: &str = include_str!("../../../sdk/js/toolchain/package.json");
const NPM_LOCK: &str = include_str!("../../../sdk/js/toolchain/package-lock.json");
const REQUIREMENTS: &str = include_str!("../../../sdk/python/toolchain/requirements.txt");
/// Written last, so that an installation that broke off is done again.
const COMPLETE: &str = "complete";

/// What is known of a language's builder.
struct Known {
    /// The program, and the package that brings it.
    program: &'static str,
    /// The version that this was tested with. A test holds it against the files above.
    version: &'static str,
    /// The program below the folder that it was installed into.
    installed: &'static str,
    /// Where a project of the language has programs of its own.
    own: &'static str,
    /// How a project gets one of its own; `VERSION` stands for the version.
    by_hand: &'static str,
    /// What is fetched for it.
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

    /// Its folder in the cache: another version is installed beside the old one.
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join("languages").join(format!("{}-{}", self.program, self.version))
    }
}

/// A language's builder, ready to run.
#[derive(Debug)]
pub struct Componentizer {
    language: Language,
    program: PathBuf,
}

impl Componentizer {
    /// Finds the builder for the project in a folder: the project's own, the one in `cache`, the first
    /// on the `PATH`. Where there is none it is installed into `cache` if it may be; else the error is
    /// one line that says how to get it.
    pub fn find(
        language: Language,
        folder: &Path,
        cache: &Path,
        may_install: bool,
    ) -> Result<Self> {
        let known = Known::of(language)?;
        // node is needed at each build, Python's builder needs only itself.
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
                "{} is version {version}; {} is what this was tested with",
                program.display(),
                known.version
            ));
        }
        Ok(Self { language, program })
    }

    /// The pinned builder in `cache`, installed there by the language's own package manager unless it
    /// is there already.
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
        .with_context(|| format!("{name} cannot be installed"))?;
        fs::write(folder.join(COMPLETE), version)?;
        let program = folder.join(known.installed).join(name);
        Ok(Self { language, program })
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What was installed, for telling whether a component would come out otherwise.
    pub fn version(&self) -> &'static str {
        Known::of(self.language).map_or("", |known| known.version)
    }

    /// Makes a component of the project in a folder. What the builder says of an author's mistake is
    /// the error.
    pub fn build(&self, folder: &Path, component: &Path) -> Result<()> {
        let main = folder.join(self.language.main_file());
        if !main.is_file() {
            bail!("{} is missing: it is what the component is made of", main.display());
        }
        project::add_sdk(self.language, folder)?;
        let contract = project::contract_of(folder);
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
            Language::Python | Language::Rust => {
                // WASI stays: without it Python's hashes and random numbers would be the same in
                // each instance. The host grants nothing by it.
                command.args(["--quiet", "--world", project::WORLD_NAME, "--wit-path"]);
                command.arg(&contract).arg("componentize").arg("--python-path").arg(folder);
                command.arg("plugin");
                // It would look for packages there, which are not this plugin's.
                command.env_remove("VIRTUAL_ENV");
            }
        }
        // The stack of a builder written in Rust says nothing to an author.
        command.env("RUST_BACKTRACE", "0").env_remove("RUST_LIB_BACKTRACE");
        let ended = command.arg("--output").arg(&made).stdin(Stdio::null()).output();
        let ended =
            ended.with_context(|| format!("{} cannot be started", self.program.display()))?;
        if !ended.status.success() {
            let said = mistake(&String::from_utf8_lossy(&ended.stderr));
            let (main, command) = (main.display(), words(&command));
            ensure!(!said.is_empty(), "`{command}` failed ({}) and said nothing", ended.status);
            bail!("{main} does not make a component:\n{said}");
        }
        let mut bytes = fs::read(&made).with_context(|| made.display().to_string())?;
        quick_start::embed(&mut bytes, folder)?;
        fs::write(&made, bytes).with_context(|| made.display().to_string())?;
        fs::rename(&made, component).with_context(|| component.display().to_string())
    }
}

/// The pinned builder, where it is installed whole.
fn in_cache(known: &Known, cache: &Path) -> Option<PathBuf> {
    let folder = known.folder(cache);
    let program = folder.join(known.installed).join(known.program);
    (folder.join(COMPLETE).exists() && program.exists()).then_some(program)
}

/// One line.
fn how_to_get(known: &Known, folder: &Path, cache: &Path) -> String {
    let (program, size, shown) = (known.program, known.size, folder.display());
    let (by_hand, cache) = (known.by_hand.replace("VERSION", known.version), cache.display());
    format!(
        "there is no {program} here; get it by `keepgate plugin build {shown} --install` ({size}, \
         once, into {cache}), or for this plugin alone by `{by_hand}` in {shown}"
    )
}

/// What a builder says of itself; none where it does not tell.
fn version(language: Language, program: &Path) -> Option<String> {
    if language == Language::JavaScript {
        // A link to a file of the package, two folders below its top.
        let file = program.canonicalize().ok()?;
        let package = file.ancestors().nth(2)?.join("package.json");
        let package: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(package).ok()?).ok()?;
        return package.get("version")?.as_str().map(str::to_owned);
    }
    let said = output(Command::new(program).arg("--version")).ok()?;
    said.split_whitespace().last().map(str::to_owned)
}

/// What a builder says of an author's mistake, without its own way there.
fn mistake(said: &str) -> String {
    const STACK: &str = "\nStack backtrace:";
    const CAUSES: &str = "\n\nCaused by:";
    let said = said.split_once(STACK).map_or(said, |(said, _)| said);
    // componentize-py tells it as the message of an error of its own.
    let said = said.split_once("\nAssertionError: ").map_or(said, |(_, said)| said);
    let said = said.strip_prefix("Error: : ").unwrap_or(said);
    let said = said.split_once(CAUSES).map_or(said, |(said, _)| said);
    let said = said.strip_prefix("Failed to evaluate user JavaScript module: ").unwrap_or(said);
    let said = said.strip_prefix("Failed to declare JavaScript module: ").unwrap_or(said);
    // Where the sources lie while they are evaluated.
    said.replace("\"/0/", "\"").trim().to_owned()
}

fn install_qjs(folder: &Path) -> Result<()> {
    require("npm", "npm", Language::JavaScript)?;
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
            "plugins in {title} need {program}; get it by `{advice}` as root, or as its makers say"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_what_is_installed() {
        let lock: serde_json::Value = serde_json::from_str(NPM_LOCK).unwrap();
        let locked = &lock["packages"]["node_modules/componentize-qjs"];
        assert_eq!(locked["version"], QJS.version);
        assert!(locked["integrity"].is_string());
        let package: serde_json::Value = serde_json::from_str(NPM_PACKAGE).unwrap();
        assert_eq!(package["dependencies"]["componentize-qjs"], QJS.version);
        assert_eq!(REQUIREMENTS.trim(), format!("{}=={}", PY.program, PY.version));
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
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
        // On the `PATH` it may be, too.
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
