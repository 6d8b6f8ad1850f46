//! Files beside a plugin's sources that become custom sections of its component, whatever language it is written in.
//! They are for hosts; one that does not know a section ignores it.
//!
//! | file | section | what it is |
//! | --- | --- | --- |
//! | `quick-start.txt` | `keepgate:quick-start` | what a user of a new gateway types to try the plugin; the gateway prints it (`host/keepgate/src/quick_start.rs`) |
//! | `refusals.json` | `keepgate:refusals` | how the surface reports failures, for those that the host answers (`host/core/src/refusal_form.rs`) |
//!
//! The contents are checked by the host when it loads the component, and by `keepgate plugin build` and `check`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The names of the files, with those of their sections.
const SECTIONS: [(&str, &str); 2] =
    [("quick-start.txt", "keepgate:quick-start"), ("refusals.json", "keepgate:refusals")];

/// Whether a file of this name becomes a section.
pub(crate) fn is_for_one(file: &str) -> bool {
    SECTIONS.iter().any(|(name, _)| *name == file)
}

/// Appends the files in a plugin's folder to its component, those that there are.
pub fn embed(component: &mut Vec<u8>, folder: &Path) -> Result<()> {
    for (name, section) in SECTIONS {
        let file = folder.join(name);
        match fs::read(&file) {
            Ok(content) => append_section(component, section, &content),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
    }
    Ok(())
}

/// A custom section: the id 0, the length of the rest, then name and content.
fn append_section(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = leb128(name.len());
    body.extend(name.as_bytes());
    body.extend(content);
    component.push(0);
    component.extend(leb128(body.len()));
    component.extend(body);
}

/// A number as WebAssembly writes it: seven bits per byte, the lowest first.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_without_such_files_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        let before = component.clone();
        embed(&mut component, folder.path()).unwrap();
        assert_eq!(component, before);
    }

    #[test]
    fn a_file_becomes_a_custom_section_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let text = "curl {url}/\n".repeat(20);
        fs::write(folder.path().join("quick-start.txt"), &text).unwrap();
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        embed(&mut component, folder.path()).unwrap();
        // One byte for the length of the name, 20 for the name, 240 for the text: 261 is 0x85 0x02.
        assert_eq!(component[8..12], [0, 0x85, 0x02, 20]);
        assert_eq!(component[12..], [&b"keepgate:quick-start"[..], text.as_bytes()].concat());
    }

    #[test]
    fn each_file_has_a_section_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("refusals.json"), "{}").unwrap();
        let mut component = Vec::new();
        embed(&mut component, folder.path()).unwrap();
        assert_eq!(component, b"\0\x14\x11keepgate:refusals{}");
        fs::write(folder.path().join("quick-start.txt"), "").unwrap();
        component.clear();
        embed(&mut component, folder.path()).unwrap();
        assert_eq!(component, b"\0\x15\x14keepgate:quick-start\0\x14\x11keepgate:refusals{}");
        assert!(is_for_one("refusals.json") && is_for_one("quick-start.txt"));
        assert!(!is_for_one("README.md"));
    }
}
