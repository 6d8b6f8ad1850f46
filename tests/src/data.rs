//! Bytes that follow from a seed, so that a test can remember a gigabyte in two numbers.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Random numbers, the same ones for the same seed: splitmix64, good enough for test data.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}

/// Content that follows from two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Of the bytes.
    pub seed: u64,
    /// In bytes.
    pub size: u64,
}

impl Blob {
    /// A blob.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    /// Its bytes, piece by piece.
    pub fn reader(self) -> BlobReader {
        BlobReader {
            random: Random::new(self.seed),
            left: self.size,
            block: vec![0; 64 * 1024],
            at: 64 * 1024,
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap());
        self.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Its SHA-256 in hex, which is its name in restic's protocol.
    pub fn id(self) -> String {
        sha256(self.reader())
    }
}

/// Reads a [`Blob`].
#[derive(Debug)]
pub struct BlobReader {
    random: Random,
    left: u64,
    block: Vec<u8>,
    at: usize,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            for word in self.block.chunks_exact_mut(8) {
                word.copy_from_slice(&self.random.number().to_le_bytes());
            }
            self.at = 0;
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(self.block.len() - self.at).min(left);
        buffer[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at += length;
        self.left -= length as u64;
        Ok(length)
    }
}

/// SHA-256 in lower-case hex of everything that there is to read.
pub fn sha256(mut from: impl Read) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return hex(&hash.finalize()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_the_same_however_it_is_read() {
        let blob = Blob::new(7, 200_001);
        let whole = blob.bytes();
        assert_eq!(whole.len(), 200_001);
        let mut pieces = Vec::new();
        let mut reader = blob.reader();
        let mut piece = [0; 777];
        loop {
            match reader.read(&mut piece).unwrap() {
                0 => break,
                read => pieces.extend_from_slice(&piece[..read]),
            }
        }
        assert!(pieces == whole);
        assert_ne!(Blob::new(8, 200_001).id(), blob.id());
        assert_eq!(
            Blob::new(1, 0).id(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
