//! `keepgate plugin inspect`: a component as WIT that can be read and kept, its parts as comments
//! after it.

use std::path::Path;

use anyhow::Result;
use keepgate_runtime::{Inspection, inspect};

/// Prints it; the exit code: 1 where it is no component.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command's output")]
pub(crate) fn run(file: &Path) -> Result<u8> {
    let bytes = super::read(file)?;
    let seen = Inspection::of(&bytes);
    let wit = inspect::wit(&bytes);
    if let Ok(text) = &wit {
        println!("{}\n", text.trim_end());
    }
    println!("// {}: {} bytes, sha256 {}", file.display(), seen.size, seen.digest);
    for section in &seen.sections {
        let indent = "  ".repeat(section.depth);
        println!("// {:>10}  {indent}{}", section.size, section.name);
    }
    match wit {
        Ok(_) => Ok(0),
        Err(why) => {
            eprintln!("{}: {}", file.display(), seen.refusal.unwrap_or(why));
            Ok(1)
        }
    }
}
