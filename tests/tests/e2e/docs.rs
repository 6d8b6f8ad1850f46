//! The book in `docs`: its commands work and print what it shows, its links lead somewhere, its table of
//! contents names every page. `docs/README.md` says how a page is written for this.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keepgate_tests::tools;
use regex::Regex;

/// Time for compiling a plugin for the first time on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(1800);
/// Between the outputs of two commands.
const MARK: &str = "-- keepgate docs --";

/// One step to take in a page's shell.
#[derive(Debug)]
struct Step {
    /// Line of the page, from 1.
    line: usize,
    command: String,
    /// The expected result.
    shown: Vec<String>,
    code: i32,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every page, by its path below `docs/src`.
fn pages() -> BTreeMap<String, String> {
    let root = source().join("docs/src");
    let mut folders = vec![root.clone()];
    let mut pages = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                pages.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    pages
}

/// The text of a comment `<!-- NAME: TEXT -->`.
fn comment<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let inside = line.strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    inside.strip_prefix(name)?.strip_prefix(':').map(str::trim)
}

/// The steps of a page, up to the first block that needs something missing and without sections that do;
/// and what is missing.
fn steps(text: &str, has: impl Fn(&str) -> bool) -> (Vec<Step>, Vec<String>) {
    let mut steps: Vec<Step> = Vec::new();
    let (mut skipped, mut missing) = (false, None);
    let mut fence: Option<bool> = None;
    // The level of the heading above a line, and of the one whose section is left out.
    let (mut level, mut left_out, mut lacking) = (0, None, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if fence.is_none() && line.starts_with('#') {
            level = line.chars().take_while(|c| *c == '#').count();
            left_out = left_out.filter(|left_out| *left_out < level);
        }
        if fence.is_none()
            && left_out.is_none()
            && let Some(need) = comment(line, "section needs").filter(|need| !has(need))
        {
            left_out = Some(level);
            lacking.push(format!("a section: there are no {need}"));
        }
        if left_out.is_some() {
            // Lines of code may begin with anything.
            if line.starts_with("```") {
                fence = match fence {
                    Some(_) => None,
                    None => Some(false),
                };
            }
            continue;
        }
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => {
                (fence, skipped, missing) = (None, false, None);
                continue;
            }
            (Some(language), None) => {
                let console = language == "console" && !skipped;
                if console && let Some(missing) = missing {
                    lacking.push(format!("from a block on: there is no {missing}"));
                    return (steps, lacking);
                }
                fence = Some(console);
                continue;
            }
            _ => {}
        }
        match fence {
            None => {
                skipped |= comment(line, "not here").is_some();
                for need in comment(line, "needs").into_iter().flat_map(|all| all.split(", ")) {
                    missing = missing.or_else(|| (!has(need)).then(|| need.to_owned()));
                }
                if let Some(command) = comment(line, "run") {
                    let (shown, code) = (Vec::new(), 0);
                    steps.push(Step { line: number, command: command.to_owned(), shown, code });
                }
            }
            Some(false) => {}
            Some(true) => {
                let last = steps.last_mut();
                if let Some(command) = line.strip_prefix("$ ") {
                    let (command, code) = match command.split_once(" # exits with ") {
                        Some((command, code)) => (command, code.parse().unwrap()),
                        None => (command, 0),
                    };
                    let shown = Vec::new();
                    steps.push(Step { line: number, command: command.to_owned(), shown, code });
                } else if let Some(more) = line.strip_prefix('>') {
                    let more = more.strip_prefix(' ').unwrap_or(more);
                    last.unwrap().command += &format!("\n{more}");
                } else if line != "..." {
                    last.unwrap().shown.push(line.to_owned());
                }
            }
        }
    }
    (steps, lacking)
}

/// Whether everything that a page needs is installed here.
fn has(need: &str) -> bool {
    match need {
        // If xtask could build some, an author can.
        "plugins in JavaScript" => tools::find_guest("archive-js").is_some(),
        "plugins in Python" => tools::find_guest("archive-py").is_some(),
        program => tools::find(program).is_some(),
    }
}

/// A shell that takes all steps one after another, with marks between their outputs.
fn script(steps: &[Step], logs: &Path) -> String {
    let mut script = "shopt -s expand_aliases\nexec 2>&1\n\
                      trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT\n"
        .to_owned();
    for (number, step) in steps.iter().enumerate() {
        let command = match step.command.strip_suffix(" &") {
            // Its later output must not mix with that of the next steps.
            Some(command) => format!("{command} > {}/{number}.log 2>&1 &", logs.display()),
            None => step.command.clone(),
        };
        script += &format!("{command}\nprintf '\\n%s %d\\n' '{MARK}' \"$?\"\n");
    }
    script
}

/// Whether lines occur in this order, with anything in between. Runs of blanks are equal, and `…` matches
/// anything.
fn comes(said: &str, shown: &[String]) -> Result<(), String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut said = said.lines();
    for line in shown {
        let pieces: Vec<_> = words(line).split('…').map(regex::escape).collect();
        let pattern = Regex::new(&format!("^{}$", pieces.join(".*"))).unwrap();
        if !said.any(|said| pattern.is_match(&words(said))) {
            return Err(line.clone());
        }
    }
    Ok(())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Follows a page, as its reader would.
fn follow(page: &str, text: &str) {
    let port = free_port();
    let text = text.replace("localhost:8000", &format!("localhost:{port}"));
    let (steps, lacking) = steps(&text, has);
    for lacking in lacking {
        let (part, why) = lacking.split_once(": ").unwrap();
        tools::skip(&format!("docs/src/{page}, {part}"), why);
    }
    if steps.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (work, programs) = (folder.path().join("work"), folder.path().join("programs"));
    for folder in [&work, &programs] {
        fs::create_dir(folder).unwrap();
    }
    std::os::unix::fs::symlink(tools::keepgate(), programs.join("keepgate")).unwrap();
    let script_file = folder.path().join("script");
    fs::write(&script_file, script(&steps, folder.path())).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)));
    let mut bash = Command::new("bash");
    bash.arg(script_file).current_dir(work);
    bash.env("PATH", path.unwrap()).env("PORT", port.to_string());
    bash.env("KEEPGATE_SOURCE", source()).env("KEEPGATE_PLUGIN_DIR", tools::plugin_dir());
    bash.env("RUST_BACKTRACE", "0").env_remove("KEEPGATE_LOG");
    let all = tools::run_with(bash, b"", LIMIT).stdout;

    let mut rest = all.as_str();
    for (number, step) in steps.iter().enumerate() {
        let place = format!("docs/src/{page}:{}: `{}`", step.line, step.command);
        let log = fs::read_to_string(folder.path().join(format!("{number}.log")));
        let log = log.unwrap_or_default();
        let Some((said, after)) = rest.split_once(MARK) else {
            panic!("{place} never ended; output:\n{rest}{log}");
        };
        let (code, after) = after.split_once('\n').unwrap_or((after, ""));
        rest = after;
        assert_eq!(code.trim(), step.code.to_string(), "{place} exited so; it said:\n{said}{log}");
        if let Err(line) = comes(said, &step.shown) {
            panic!("{place} does not print the line\n{line}\nin this order; it printed\n{said}");
        }
    }
}

#[test]
fn the_book_s_commands_do_what_it_shows() {
    let pages = pages();
    std::thread::scope(|scope| {
        for (page, text) in &pages {
            scope.spawn(move || follow(page, text));
        }
    });
}

#[test]
fn a_page_is_read_as_its_readme_says() {
    let text = "\
<!-- not here: no -->
```console
$ rm -rf /
```
<!-- run: prepare -->
```text
$ not a command
```
<!-- needs: bash -->
```console
$ cat <<END
> a
>
> END
a
...
$ false # exits with 1
```
## Another
<!-- section needs: something -->
```console
# code
$ left out
```
### Of it
```console
$ left out too
```
## Back
<!-- needs: bash, something -->
```toml
```
```console
$ last
```
<!-- needs: something -->
```console
$ never
```
";
    let (steps, lacking) = steps(text, |need| need == "bash");
    let read: Vec<_> = steps.iter().map(|s| (s.command.as_str(), s.shown.len(), s.code)).collect();
    assert_eq!(
        read,
        [("prepare", 0, 0), ("cat <<END\na\n\nEND", 1, 0), ("false", 0, 1), ("last", 0, 0)]
    );
    assert_eq!(
        lacking,
        ["a section: there are no something", "from a block on: there is no something"]
    );
    let shown = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(comes("x\na   1\ny\nb 22 c\n", &shown(&["  a 1", "b … c"])).is_ok());
    assert_eq!(comes("b\na\n", &shown(&["a", "b"])), Err("b".to_owned()));
    assert!(comes("ab\n", &shown(&["a"])).is_err(), "a line is shown completely, or with `…`");
}

/// A page's text without its code, in which brackets mean other things.
fn prose(text: &str) -> String {
    let mut code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// The anchor of a heading, as mdBook generates it.
fn anchors(text: &str) -> Vec<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').strip_prefix(' ')?;
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
    };
    let prose = prose(text);
    prose.lines().filter(|line| line.starts_with('#')).filter_map(heading).collect()
}

/// The Markdown files of the repository outside the book, by their path.
fn documents() -> BTreeMap<String, String> {
    let root = source();
    let mut folders = vec![root.clone()];
    let mut documents = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            // Files that a build or a trial setup leaves in a clone are not ours.
            let foreign = name.starts_with('.')
                || matches!(&*name, "target" | "node_modules" | "keepgate-data")
                || path.ends_with("docs/src");
            if path.is_dir() && !path.is_symlink() && !foreign {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                documents.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    documents
}

/// The broken relative links of these pages: `target` gives the text of the page at a path, or nothing if
/// there is none.
fn dead_links(
    pages: &BTreeMap<String, String>,
    target: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let link = Regex::new(r"\]\(([^) ]+)\)").unwrap();
    let mut dead = Vec::new();
    for (page, text) in pages {
        for found in link.captures_iter(&prose(text)) {
            let address = &found[1];
            if address.contains("://") {
                continue;
            }
            let (path, anchor) = address.split_once('#').unwrap_or((address, ""));
            let mut to: Vec<&str> = page.split('/').collect();
            if !path.is_empty() {
                to.pop();
                for part in path.split('/') {
                    match part {
                        ".." => drop(to.pop()),
                        part => to.push(part),
                    }
                }
            }
            let good = target(&to.join("/")).is_some_and(|text| {
                anchor.is_empty() || anchors(&text).iter().any(|a| a == anchor)
            });
            if !good {
                dead.push(format!("{page}: {address}"));
            }
        }
    }
    dead
}

#[test]
fn every_link_of_the_book_leads_to_a_page_and_a_heading() {
    let pages = pages();
    let dead = dead_links(&pages, |path| pages.get(path).cloned());
    assert!(dead.is_empty(), "broken links:\n{}", dead.join("\n"));
}

#[test]
fn every_link_of_other_documents_leads_to_a_file_and_a_heading() {
    let documents = documents();
    assert!(documents.contains_key("README.md") && documents.contains_key("docs/style.md"));
    let dead = dead_links(&documents, |path| {
        let path = source().join(path);
        path.exists().then(|| fs::read_to_string(path).unwrap_or_default())
    });
    assert!(dead.is_empty(), "broken links:\n{}", dead.join("\n"));
}

#[test]
fn the_table_of_contents_and_the_doctests_name_every_page() {
    let pages = pages();
    let included = included_pages(&source().join("sdk/src"));
    for (page, text) in pages.iter().filter(|(page, _)| *page != "SUMMARY.md") {
        assert!(pages["SUMMARY.md"].contains(&format!("]({page})")), "SUMMARY.md lacks {page}");
        let compiled = text.lines().any(|line| line == "```rust");
        // Two pages may have the same name, in different folders.
        let whole = format!("docs/src/{page}");
        let named = included.iter().any(|path| path == page || path.ends_with(&whole));
        assert_eq!(named, compiled, "{page}: does a module of the SDK include its Rust?");
    }
}

/// The pages that documentation tests of the SDK include: all strings in its sources that end with `.md`.
fn included_pages(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(included_pages(&path));
        } else {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(text.split('"').filter(|part| part.ends_with(".md")).map(str::to_owned));
        }
    }
    found
}
