//! Inputs for what reads bytes from outside: samples with damage. The `fuzz_…` test programs of several crates include
//! this file; `cargo xtask fuzz` runs them for as long as one likes.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

/// For a property that `cargo test` tries with `few` inputs, and `cargo xtask fuzz` with as many as it says. An input that
/// fails is kept beside the test program.
pub(crate) fn config(few: u32) -> ProptestConfig {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/", env!("CARGO_CRATE_NAME"), ".regressions");
    let defaults = ProptestConfig::default();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(few, |_| defaults.cases);
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..defaults
    }
}

/// Bytes that messages of failed tests show as a literal of Rust.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of bytes.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// The bytes end here.
    Cut(Index),
    Remove(Index, usize),
    FlipBit(Index, u8),
    Set(Index, u8),
    Insert(Index, Bytes),
    /// What is at the first place is also written over what is at the second.
    Copy(Index, Index, usize),
}

fn edit(words: &'static [&'static [u8]]) -> impl Strategy<Value = Edit> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&[0_u8, 1, 0x7f, 0x80, 0xff][..])];
    let length = prop_oneof![4 => 1..8_usize, 1 => 1..600_usize];
    let inserted = prop_oneof![
        2 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(byte.clone(), 1..9),
    ];
    let place = any::<Index>;
    prop_oneof![
        1 => place().prop_map(Edit::Cut),
        2 => (place(), length.clone()).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (place(), 0..8_u8).prop_map(|(at, bit)| Edit::FlipBit(at, bit)),
        2 => (place(), byte).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (place(), inserted).prop_map(|(at, bytes)| Edit::Insert(at, Bytes(bytes))),
        1 => (place(), place(), length).prop_map(|(from, to, length)| Edit::Copy(from, to, length)),
    ]
}

/// A few changes. `words` are what means something in such bytes; they are inserted more often than chance would do it.
pub(crate) fn edits(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(words), 1..6)
}

/// A sample after these changes.
pub(crate) fn edited(sample: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for edit in edits {
        let size = bytes.len();
        // One more than there are bytes: the end is a place, too.
        let end = |at: usize, length: usize| size.min(at.saturating_add(length));
        match edit {
            Edit::Cut(at) => bytes.truncate(at.index(size + 1)),
            Edit::Remove(at, length) => {
                let at = at.index(size + 1);
                bytes.drain(at..end(at, *length));
            }
            Edit::FlipBit(at, bit) if size > 0 => bytes[at.index(size)] ^= 1 << bit,
            Edit::Set(at, byte) if size > 0 => bytes[at.index(size)] = *byte,
            Edit::Insert(at, inserted) => {
                let at = at.index(size + 1);
                bytes.splice(at..at, inserted.0.iter().copied());
            }
            Edit::Copy(from, to, length) if size > 0 => {
                let (from, to) = (from.index(size), to.index(size));
                let copied = bytes[from..end(from, *length)].to_vec();
                bytes.splice(to..end(to, *length), copied);
            }
            Edit::FlipBit(..) | Edit::Set(..) | Edit::Copy(..) => {}
        }
    }
    bytes
}
