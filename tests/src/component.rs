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

/// The same component with one more core module, which nothing uses. Its only function has this many variables, each of
/// which changes in this many loops, one inside the other. A compiler has to follow each variable through each loop, so a
/// small file can take any time and memory.
pub fn expensive_to_compile(component: &[u8], variables: u32, loops: u32) -> Vec<u8> {
    // One group of locals of type i64.
    let mut body = vec![1];
    leb128(&mut body, variables);
    body.push(0x7e);
    for _ in 0..loops {
        // loop
        body.extend([0x03, 0x40]);
    }
    for variable in 0..variables {
        // local.get, i64.const 3, i64.mul, local.set
        body.push(0x20);
        leb128(&mut body, variable);
        body.extend([0x42, 3, 0x7e, 0x21]);
        leb128(&mut body, variable);
    }
    for _ in 0..loops {
        // local.get 0, i32.wrap_i64, br_if 0, end
        body.extend([0x20, 0, 0xa7, 0x0d, 0, 0x0b]);
    }
    body.push(0x0b);
    let mut function = Vec::new();
    leb128(&mut function, u32::try_from(body.len()).unwrap());
    let code = [vec![1], function, body].concat();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // A type () -> (), a function of it, and its code.
    for (id, content) in [(1, vec![1, 0x60, 0, 0]), (3, vec![1, 0]), (10, code)] {
        section(&mut module, id, &content);
    }
    let mut component = component.to_vec();
    section(&mut component, 1, &module);
    component
}

fn section(into: &mut Vec<u8>, id: u8, content: &[u8]) {
    into.push(id);
    leb128(into, u32::try_from(content.len()).unwrap());
    into.extend(content);
}

fn leb128(into: &mut Vec<u8>, mut number: u32) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            into.push(low);
            return;
        }
        into.push(low | 0x80);
    }
}
