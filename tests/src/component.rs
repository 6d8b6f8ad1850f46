//! Variants of a component: with the same behaviour and another digest, or broken.

/// The same component with a custom section at its end that contains `tag`: it behaves the same and
/// has another digest.
pub fn tagged(component: &[u8], tag: u64) -> Vec<u8> {
    with_section(component, "keepgate-test", &tag.to_le_bytes())
}

/// The same component with a custom section at its end.
pub fn with_section(component: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let name_length = u8::try_from(name.len()).unwrap();
    assert!(name_length < 128, "one byte of LEB128");
    let length = 1 + name.len() + content.len();
    assert!(length < 1 << 14, "two bytes of LEB128");
    let (low, high) = (u8::try_from(length & 0x7f).unwrap(), u8::try_from(length >> 7).unwrap());
    [component, &[0, low | 0x80, high, name_length], name.as_bytes(), content].concat()
}

/// The same component, claiming version 0.9.0 of the contract.
pub fn of_another_version(component: &[u8]) -> Vec<u8> {
    of_version(component, *b"@0.9.0")
}

/// The same component with another version of the contract in its names, instead of that of this repository's SDK; `to`
/// is the version as written there.
pub fn of_version(component: &[u8], to: [u8; 6]) -> Vec<u8> {
    let from = b"@0.1.1";
    let mut patched = component.to_vec();
    let mut at = 0;
    while at + from.len() <= patched.len() {
        if patched[at..].starts_with(from) {
            patched[at..at + to.len()].copy_from_slice(&to);
        }
        at += 1;
    }
    assert_ne!(patched, component, "the component names no version 0.1.1");
    patched
}

/// The first half of a component, like a copy in progress.
pub fn half(component: &[u8]) -> &[u8] {
    &component[..component.len() / 2]
}
