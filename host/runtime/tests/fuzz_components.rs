//! Files of plugins with damage, and sections of all sorts: what a file is, is said by its bytes alone, and whether a copy of
//! it is complete by the lengths of its sections. `cargo xtask fuzz components` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::path::Path;
use std::sync::LazyLock;

use keepgate_runtime::Inspection;
use keepgate_runtime::inspect::{Kind, custom_section, wit};
use proptest::prelude::*;
use proptest::sample::Index;
use wit_parser::Resolve;

use inputs::{Bytes, config, edited, edits};

/// What every component begins with.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
/// The highest number of a kind of section.
const LAST_SECTION: u8 = 12;

/// What files of several kinds begin with.
const BEGINNINGS: [&[u8]; 5] = [b"", b"\0asm", HEADER, b"\0asm\x01\0\0\0", b"\x7fELF"];

/// What means something in components.
const WORDS: [&[u8]; 20] = [
    HEADER,
    b"\0asm\x01\0\0\0",
    b"\x00\x05\x04name",
    b"\x00\x10\x0fcomponent-type:",
    b"\x00\x0a\x09producers",
    b"\x01\x00",
    b"\x04\xff\xff\xff\xff\x0f",
    b"\x07\x80\x80\x80\x80\x80\x00",
    b"\x0a\x00",
    b"\x0b\x00",
    b"\x0c\x00",
    b"\x0d\x00",
    b"keepgate:plugin/guest@0.1.1",
    b"keepgate:plugin/guest@18446744073709551616.0.0",
    b"keepgate:plugin/nothing@0.1.0",
    b"wasi:http/incoming-handler@0.2.6",
    b"wasi:cli/run@0.2.0",
    b"/@",
    b"\x1b[2J\n",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// A plugin, the contract in its binary form, and the smallest of both kinds of file.
static SAMPLES: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let folder = std::env::var("KEEPGATE_PLUGIN_DIR")
        .unwrap_or_else(|_| panic!("KEEPGATE_PLUGIN_DIR is not set: run `cargo xtask test`"));
    let plugin = std::fs::read(Path::new(&folder).join("restic.wasm")).unwrap();
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1.1");
    let (package, _) = resolve.push_dir(contract).unwrap();
    let package = wit_component::encode(&resolve, package).unwrap();
    assert_eq!(Inspection::of(&plugin).kind, Kind::Plugin);
    assert_eq!(Inspection::of(&package).kind, Kind::WitPackage);
    [plugin, package, HEADER.to_vec(), b"\0asm\x01\0\0\0".to_vec()]
});

/// A sample with damage. What is not code is small, and stands at its beginning and its end.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let sample = prop_oneof![4 => Just(0_usize), 4 => Just(1), 1 => Just(2), 1 => Just(3)];
    (sample, any::<Option<bool>>(), edits(&WORDS)).prop_map(|(sample, near, edits)| {
        let sample = &SAMPLES[sample];
        let part = sample.len().min(16 * 1024);
        match near.filter(|_| sample.len() > 2 * part) {
            None => edited(sample, &edits),
            Some(true) => [&edited(&sample[..part], &edits), &sample[part..]].concat(),
            Some(false) => {
                let begin = sample.len() - part;
                [&sample[..begin], &edited(&sample[begin..], &edits)].concat()
            }
        }
    })
}

/// What holds for every file.
fn inspect(bytes: &[u8]) -> Result<Inspection, TestCaseError> {
    let seen = Inspection::of(bytes);
    prop_assert_eq!(seen.size, bytes.len() as u64);
    let outer = seen.sections.iter().filter(|section| section.depth == 0);
    let outer: u64 = outer.map(|section| section.size).sum();
    prop_assert!(outer <= seen.size, "sections of {} bytes in {}", outer, seen.size);
    prop_assert!(seen.refusal.as_ref().is_none_or(|why| !why.trim().is_empty()));
    if seen.kind != Kind::Plugin && seen.kind != Kind::HttpService {
        prop_assert!(seen.is_refused(), "{:?}", seen.kind);
    }
    if !seen.is_refused() {
        let world = wit(bytes);
        prop_assert!(world.is_ok(), "{:?}", world);
        prop_assert!(!seen.exports.is_empty());
    }
    for name in ["name", "producers", "keepgate:refusals"] {
        if let Some(content) = custom_section(bytes, name) {
            prop_assert!(content.len() < bytes.len());
        }
    }
    serde_json::to_string(&seen).unwrap();
    Ok(seen)
}

/// A section: its number, how many bytes its length is longer than it must be, and its content.
type Section = (u8, usize, Bytes);

fn section() -> impl Strategy<Value = Section> {
    let id = prop_oneof![20 => 0..=LAST_SECTION, 1 => any::<u8>()];
    let content = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 120..300),
    ];
    (id, 0..5_usize, content.prop_map(Bytes))
}

/// A length in LEB128, of five bytes at most.
fn leb(length: usize, longer: usize) -> Vec<u8> {
    let mut left = length;
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        bytes.push(byte);
        if left == 0 {
            break;
        }
        *bytes.last_mut().unwrap() |= 0x80;
    }
    for _ in 0..longer.min(5 - bytes.len()) {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    }
    bytes
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn damaged_components_are_inspected(bytes in damaged()) {
        inspect(&bytes)?;
    }

    #[test]
    fn parts_of_components_are_inspected(
        sample in 0..4_usize,
        begin: Index,
        edits in edits(&WORDS),
        header: bool,
    ) {
        let sample = &SAMPLES[sample];
        let rest = &sample[begin.index(sample.len())..];
        let rest = edited(&rest[..rest.len().min(4096)], &edits);
        let header = if header { HEADER } else { b"" };
        inspect(&[header, &rest].concat())?;
    }
}

proptest! {
    #![proptest_config(config(200))]

    /// A copy in progress is told from a damaged file: the watcher waits for the rest of one, and not of the other.
    #[test]
    fn a_file_that_ends_within_a_section_is_incomplete(
        sections in prop::collection::vec(section(), 0..6),
        end: Index,
    ) {
        let mut bytes = HEADER.to_vec();
        // Where each section ends.
        let mut ends = vec![bytes.len()];
        let mut unknown = None;
        for (id, longer, content) in &sections {
            if *id > LAST_SECTION {
                unknown = unknown.or(Some(bytes.len()));
            }
            bytes.push(*id);
            bytes.extend(leb(content.0.len(), *longer));
            bytes.extend(&content.0);
            ends.push(bytes.len());
        }
        let end = end.index(bytes.len() + 1);
        let seen = inspect(&bytes[..end])?;
        match unknown.filter(|unknown| *unknown < end) {
            Some(_) => prop_assert_eq!(seen.kind, Kind::Damaged),
            None => prop_assert_eq!(seen.kind == Kind::Truncated, !ends.contains(&end)),
        }
    }

    #[test]
    fn bytes_of_no_kind_are_refused(
        begin in prop::sample::select(&BEGINNINGS[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(inspect(&[begin, &bytes].concat())?.is_refused());
    }
}
