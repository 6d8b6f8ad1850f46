//! Names of blobs and folders, validated once when they are made. All other code may trust them.

use std::fmt;

use crate::error::StoreError;

/// Longest key in bytes, as in S3.
pub const MAX_KEY: usize = 1024;
/// Longest segment in bytes, as in most file systems.
pub const MAX_SEGMENT: usize = 255;
/// The folder at a store's top that holds the gateway's own files. No key may name it.
pub const RESERVED: &str = ".keepgate";
/// What names of unfinished files begin with. No segment of a key may begin with it.
pub const UNFINISHED: &str = ".keepgate-upload-";

/// The name of a blob: segments joined by `/`, none of them empty, `.`, `..` or `.keepgate`
/// or beginning with `.keepgate-upload-`, without NUL; at most 1024 bytes, and at most 255 in a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// The name of a folder: written like a key; empty for the store's top.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Folder(String);

impl Key {
    /// Validates a name. [`StoreError::Invalid`] says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        if name.is_empty() {
            return Err(StoreError::Invalid("a key must not be empty".to_owned()));
        }
        check(&name)?;
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: the name in its folder.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder that contains it.
    pub fn folder(&self) -> Folder {
        Folder(self.0.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned()))
    }
}

impl Folder {
    /// The store's top.
    pub fn top() -> Self {
        Self::default()
    }

    /// Validates a name. [`StoreError::Invalid`] says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        if !name.is_empty() {
            check(&name)?;
        }
        Ok(Self(name))
    }

    /// The name as text; empty for the store's top.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key below this folder.
    pub fn key(&self, name: &str) -> Result<Key, StoreError> {
        Key::new(self.join(name))
    }

    /// Appends `name` to this folder's name, without validating the result.
    pub fn join(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(name: &str) -> Result<(), StoreError> {
    let wrong = |why: String| Err(StoreError::Invalid(format!("key {name:?}: {why}")));
    if name.len() > MAX_KEY {
        return wrong(format!("longer than {MAX_KEY} bytes"));
    }
    if name.contains('\0') {
        return wrong("contains a NUL".to_owned());
    }
    for segment in name.split('/') {
        match segment {
            "" => return wrong("an empty segment".to_owned()),
            "." | ".." | RESERVED => {
                return wrong(format!("the segment {segment:?} is not allowed"));
            }
            _ if segment.starts_with(UNFINISHED) => {
                return wrong(format!("a segment begins with {UNFINISHED:?}"));
            }
            _ if segment.len() > MAX_SEGMENT => {
                return wrong(format!("a segment is longer than {MAX_SEGMENT} bytes"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_store_are_refused() {
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/./b",
            "a\0b",
            ".keepgate",
            "a/.keepgate/b",
            ".keepgate-upload-1",
            "a/.keepgate-upload-/b",
        ] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
        assert!(Key::new("a".repeat(256)).is_err());
        assert!(Key::new(["a".repeat(200).as_str(); 6].join("/")).is_err());
    }

    #[test]
    fn ordinary_names_pass() {
        for good in ["a", "a/b", "data/ab/abcdef", "...", "a b", ".hidden", "ключ/é", "a\nb"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Key::new("a/b/c").unwrap().folder().as_str(), "a/b");
        assert_eq!(Folder::top().join("x"), "x");
    }
}
