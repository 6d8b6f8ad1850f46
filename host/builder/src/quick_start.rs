//! A plugin's quick-start text: what a user of a new gateway types to try the plugin. It lies as
//! `quick-start.txt` beside the plugin's sources and becomes a custom section of the component, which
//! the gateway prints after it has filled in its address and login (`host/keepgate/src/quick_start.rs`
//! lists the placeholders). Hosts that do not know the section ignore it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The name of the file in a plugin's folder.
pub const FILE: &str = "quick-start.txt";
/// The name of the custom section; the gateway looks for the same.
const SECTION: &str = "keepgate:quick-start";

/// Appends the text in a plugin's folder to its component, if there is one.
pub fn embed(component: &mut Vec<u8>, folder: &Path) -> Result<()> {
    let file = folder.join(FILE);
    match fs::read_to_string(&file) {
        Ok(text) => append_section(component, SECTION, text.as_bytes()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
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
    fn a_component_without_a_text_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        let before = component.clone();
        embed(&mut component, folder.path()).unwrap();
        assert_eq!(component, before);
    }

    #[test]
    fn the_text_becomes_a_custom_section_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let text = "curl {url}/\n".repeat(20);
        fs::write(folder.path().join(FILE), &text).unwrap();
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        embed(&mut component, folder.path()).unwrap();
        // One byte for the length of the name, 20 for the name, 240 for the text: 261 is 0x85 0x02.
        assert_eq!(component[8..12], [0, 0x85, 0x02, 20]);
        assert_eq!(component[12..], [SECTION.as_bytes(), text.as_bytes()].concat());
    }
}
