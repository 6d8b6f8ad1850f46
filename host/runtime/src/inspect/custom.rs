//! Custom sections: what tools and authors put into a component beside its code.

use wasmparser::{Parser, Payload};

/// The content of a component's own custom section, not of one inside its modules. `None` if there is
/// none, or if the bytes before it are not WebAssembly.
pub fn custom_section<'a>(component: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.checked_sub(1)?,
            Payload::CustomSection(section) if depth == 0 && section.name() == name => {
                return Some(section.data());
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_components_own_sections_are_found() {
        // A component with a module that has a custom section `a`, then a custom section `b`.
        let module = b"\0asm\x01\0\0\0\0\x03\x01ax";
        let mut component = b"\0asm\x0d\0\x01\0\x01".to_vec();
        component.push(u8::try_from(module.len()).unwrap());
        component.extend(module);
        component.extend(b"\0\x03\x01by");
        assert_eq!(custom_section(&component, "b"), Some(&b"y"[..]));
        assert_eq!(custom_section(&component, "a"), None);
        assert_eq!(custom_section(b"text", "b"), None);
    }
}
