//! `keepgate plugin inspect`: prints the interfaces of a component as WIT, and its sections as comments.

use std::path::Path;

use anyhow::Result;
use keepgate::output::{note, one_line, say};
use keepgate_runtime::folder::shown;
use keepgate_runtime::inspect::Section;
use keepgate_runtime::{Inspection, inspect};

use crate::files::read;

/// Prints the component. The exit code is 1 if the file is not a component, and 2 if it cannot be read.
pub(crate) fn run(path: &Path) -> Result<u8> {
    let (file, bytes) = match read(path) {
        Ok(read) => read,
        Err(error) => {
            note!("keepgate: {}", keepgate::explain(&error));
            return Ok(2);
        }
    };
    let file = shown(&file);
    let seen = Inspection::of(&bytes);
    let wit = inspect::wit(&bytes);
    if let Ok(text) = &wit {
        say!("{}\n", text.trim_end())?;
    }
    say!("// {file}: {} bytes, sha256 {}", seen.size, seen.digest)?;
    for part in parts(&seen.sections) {
        let indent = "  ".repeat(part.depth);
        let times = if part.times > 1 { format!(" ({} times)", part.times) } else { String::new() };
        say!("// {:>10}  {indent}{}{times}", part.size, one_line(part.name))?;
    }
    match wit {
        Ok(_) => Ok(0),
        Err(why) => {
            note!("{file}: {}", one_line(&seen.refusal.unwrap_or(why)));
            Ok(1)
        }
    }
}

/// Sections with the same name and parent, added up: tools split them into many small ones.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    depth: usize,
    name: &'a str,
    /// Bytes in total.
    size: u64,
    times: usize,
    /// Whether other sections are inside it; then it is not added up.
    holds: bool,
}

fn parts(sections: &[Section]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let holds = sections.get(index + 1).is_some_and(|next| next.depth > section.depth);
        // Only the siblings of this section.
        let siblings = parts.iter_mut().rev().take_while(|part| part.depth >= section.depth);
        let same = |part: &&mut Part<'_>| {
            part.depth == section.depth && part.name == section.name && !part.holds
        };
        match siblings.into_iter().find(same).filter(|_| !holds) {
            Some(part) => {
                part.size += section.size;
                part.times += 1;
            }
            None => parts.push(Part {
                depth: section.depth,
                name: &section.name,
                size: section.size,
                times: 1,
                holds,
            }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_with_equal_names_are_added_up() {
        let section = |depth, name: &str, size| Section { depth, name: name.to_owned(), size };
        let sections = [
            section(0, "aliases", 1),
            section(0, "core module", 50),
            section(1, "code", 40),
            section(0, "core module", 7),
            section(1, "code", 3),
            section(0, "aliases", 2),
        ];
        let seen: Vec<_> =
            parts(&sections).iter().map(|p| (p.depth, p.name, p.size, p.times)).collect();
        assert_eq!(
            seen,
            [
                (0, "aliases", 3, 2),
                (0, "core module", 50, 1),
                (1, "code", 40, 1),
                (0, "core module", 7, 1),
                (1, "code", 3, 1),
            ]
        );
    }
}
