//! Variants of a component: with the same behaviour and another digest, or broken.

/// The same component with a custom section at its end that contains `tag`: it behaves the same and
/// has another digest.
pub fn tagged(component: &[u8], tag: u64) -> Vec<u8> {
    const NAME: &[u8] = b"keepgate-test";
    let mut content = vec![u8::try_from(NAME.len()).unwrap()];
    content.extend_from_slice(NAME);
    content.extend_from_slice(&tag.to_le_bytes());
    // A length below 128 is one byte of LEB128.
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    [component, &[0, length], &content].concat()
}

/// The same component, claiming version 0.9.0 of the contract.
pub fn of_another_version(component: &[u8]) -> Vec<u8> {
    of_version(component, *b"@0.9.0")
}

/// The same component with another version of the contract in its names; `to` is the version as
/// written there.
pub fn of_version(component: &[u8], to: [u8; 6]) -> Vec<u8> {
    let from = b"@0.1.0";
    let mut patched = component.to_vec();
    let mut at = 0;
    while at + from.len() <= patched.len() {
        if patched[at..].starts_with(from) {
            patched[at..at + to.len()].copy_from_slice(&to);
        }
        at += 1;
    }
    assert_ne!(patched, component, "the component names no version 0.1.0");
    patched
}

/// The first half of a component, like a copy in progress.
pub fn half(component: &[u8]) -> &[u8] {
    &component[..component.len() / 2]
}
