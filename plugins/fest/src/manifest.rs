//! The text of a manifest: reading it strictly, and writing it again with what is available. Everything but availability
//! stays as it was sent, byte for byte: the order of members, numbers, blanks.

mod canonical;
mod object;
mod place;
mod times;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use keepgate_sdk::Timestamp;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::hash::{EMPTY, Hash};
use crate::pool::Available;
use crate::problem::Problem;
use object::{Member, Object};
use place::Text;

/// Levels of objects and lists in each other.
const DEPTH: usize = 32;
/// What JSON's numbers can hold exactly.
const LARGEST: u64 = (1 << 53) - 1;
/// The server's members of an entry.
const OURS: [&str; 2] = ["is_available", "available_bytes"];

/// Members of a manifest that may occur only once. fest's own example has `omit` twice.
const UNIQUE: [&str; 5] = ["name", "timestamp", "base", "files", "directories"];

/// A manifest that makes sense.
#[derive(Debug)]
pub(crate) struct Manifest<'a> {
    text: Text<'a>,
    pub(crate) name: String,
    /// As it was sent.
    pub(crate) timestamp: String,
    pub(crate) time: Timestamp,
    pub(crate) base: Option<String>,
    pub(crate) files: Vec<File<'a>>,
    pub(crate) directories: usize,
    members: Vec<Member<'a>>,
}

/// An entry of `files`.
#[derive(Debug)]
pub(crate) struct File<'a> {
    pub(crate) path: Cow<'a, str>,
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    /// Read again where its members are needed: those of all entries take more memory than the text.
    value: &'a RawValue,
}

/// The member of a manifest.
fn member<'a, 'b>(members: &'b [Member<'a>], name: &str) -> Option<&'b Member<'a>> {
    // Of several, the last counts.
    members.iter().rev().find(|member| member.name == name)
}

impl<'a> Manifest<'a> {
    /// Reads a manifest. The refusals say where what is wrong is.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let text = Text::new(bytes)?;
        text.check_depth(DEPTH)?;
        let whole: &RawValue = serde_json::from_str(text.0).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            place::problem("bad_json", format!("this is no JSON: {error}"), line, column)
        })?;
        let top = Object::of(text, whole)
            .ok_or_else(|| text.problem("bad_json", 0, "a manifest is an object"))?;
        top.check_once(text, &UNIQUE)?;
        let string = |name: &str| -> Result<Option<String>, Problem> {
            let Some(found) = member(&top.members, name) else { return Ok(None) };
            let parsed: Result<String, _> = serde_json::from_str(found.value.get());
            let wrong = |_| {
                text.problem(
                    "bad_type",
                    text.offset(found.value),
                    format!("`{name}` is not a text"),
                )
            };
            parsed.map(Some).map_err(wrong)
        };
        let required = |name: &str| {
            let missing = || text.problem("missing", 0, format!("the manifest has no `{name}`"));
            string(name)?.ok_or_else(missing)
        };
        let at =
            |name: &str| member(&top.members, name).map_or(0, |member| text.offset(member.value));
        let name = required("name")?;
        check_name(&name).map_err(|why| text.problem("bad_name", at("name"), why))?;
        let timestamp = required("timestamp")?;
        let time = times::parse(&timestamp).ok_or_else(|| {
            let why =
                format!("timestamp {timestamp:?}: expected a time such as 2026-01-31T23:59:58Z");
            text.problem("bad_timestamp", at("timestamp"), why)
        })?;
        let base = string("base")?;
        let files = Self::files(text, &top)?;
        let directories = Self::directories(text, &top)?;
        let members = top.members;
        Ok(Self { text, name, timestamp, time, base, files, directories, members })
    }

    fn files(text: Text<'a>, top: &Object<'a>) -> Result<Vec<File<'a>>, Problem> {
        let Some(files) = member(&top.members, "files") else {
            return Err(text.problem("missing", 0, "the manifest has no `files`"));
        };
        let files = Object::of(text, files.value).ok_or_else(|| {
            text.problem("bad_type", text.offset(files.value), "`files` is not an object")
        })?;
        files.check_names(text, "files", None)?;
        let mut sizes: HashMap<Hash, u64> = HashMap::with_capacity(files.members.len());
        let mut read = Vec::with_capacity(files.members.len());
        for found in files.members {
            let place = text.offset(found.value);
            check_path(&found.name).map_err(|why| {
                text.problem("bad_path", place, format!("files: {:?} {why}", found.name))
                    .with("path", &*found.name)
            })?;
            let file = File::parse(text, found)?;
            let known = *sizes.entry(file.hash).or_insert(file.size);
            if known != file.size {
                let why = format!(
                    "files: {:?} has another size than a file with the same hash",
                    file.path
                );
                return Err(text.problem("size_conflict", place, why).with("path", &*file.path));
            }
            read.push(file);
        }
        Ok(read)
    }

    fn directories(text: Text<'a>, top: &Object<'a>) -> Result<usize, Problem> {
        let Some(found) = member(&top.members, "directories") else { return Ok(0) };
        let directories = Object::of(text, found.value).ok_or_else(|| {
            text.problem("bad_type", text.offset(found.value), "`directories` is not an object")
        })?;
        directories.check_names(text, "directories", None)?;
        for directory in &directories.members {
            let (path, place) = (&*directory.name, text.offset(directory.value));
            check_path(path).map_err(|why| {
                text.problem("bad_path", place, format!("directories: {path:?} {why}"))
                    .with("path", path)
            })?;
            let entry = Object::of(text, directory.value).ok_or_else(|| {
                text.problem("bad_type", place, format!("directories: {path:?} is not an object"))
            })?;
            entry.check_names(text, path, Some(path))?;
        }
        Ok(directories.members.len())
    }

    /// The sum of the files' sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size))
    }

    /// What is the same for two texts that are the same value of JSON but for availability.
    pub(crate) fn content(&self) -> String {
        let (mut hasher, mut form) = (Sha256::new(), Vec::new());
        for found in canonical::by_name(&self.members) {
            canonical::write_name(&found.name, &mut form);
            if found.name != "files" {
                canonical::write(found.value, &mut form);
                hasher.update(&form);
                form.clear();
                continue;
            }
            let mut files: Vec<&File<'_>> = self.files.iter().collect();
            files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
            for file in files {
                canonical::write_name(&file.path, &mut form);
                let entry = file.entry(self.text);
                let members =
                    canonical::by_name(entry.as_ref().map_or(&[], |entry| &entry.members));
                for found in members.into_iter().filter(|it| !OURS.contains(&&*it.name)) {
                    canonical::write_name(&found.name, &mut form);
                    canonical::write(found.value, &mut form);
                }
                // Nothing else has this byte: names and texts have it escaped.
                form.push(b'\n');
                hasher.update(&form);
                form.clear();
            }
        }
        hex::encode(hasher.finalize())
    }

    /// Writes the text with what is available of each file, in their order.
    pub(crate) fn write<E>(
        &self,
        available: &[Available],
        write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pieces(|number| available.get(number).map(Available::members), write)
    }

    /// The text piece by piece, with these members at the end of each entry in place of the server's own.
    fn pieces<E>(
        &self,
        members: impl Fn(usize) -> Option<String>,
        mut write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut written = 0;
        let upto = |range: Range<usize>, write: &mut dyn FnMut(&str) -> Result<(), E>| {
            self.text.0.get(range).map_or(Ok(()), &mut *write)
        };
        for (number, file) in self.files.iter().enumerate() {
            let Some(entry) = file.entry(self.text) else { continue };
            upto(written..entry.start + 1, &mut write)?;
            let mut before = entry.start + 1;
            let mut kept = 0;
            for found in &entry.members {
                if !OURS.contains(&&*found.name) {
                    // With the comma that was in front of it, unless nothing is before it now.
                    let from = if kept == 0 { found.start } else { before };
                    if kept == 0 && before == entry.start + 1 {
                        upto(before..found.start, &mut write)?;
                    }
                    upto(from..found.end, &mut write)?;
                    kept += 1;
                }
                before = found.end;
            }
            if let Some(members) = members(number) {
                write(if kept > 0 { ", " } else { "" })?;
                write(&members)?;
            }
            written = before;
        }
        upto(written..self.text.0.len(), &mut write)
    }
}

impl<'a> File<'a> {
    fn parse(text: Text<'a>, found: Member<'a>) -> Result<Self, Problem> {
        let Member { name: path, value, .. } = found;
        let place = text.offset(value);
        let wrong = |code, place, why: String| {
            text.problem(code, place, format!("files: {path:?}: {why}")).with("path", &*path)
        };
        let entry = Object::of(text, value)
            .ok_or_else(|| wrong("bad_type", place, "it is not an object".to_owned()))?;
        entry.check_names(text, &path, Some(&path))?;
        let of = |name: &str| {
            let found = member(&entry.members, name).map(|member| member.value);
            found.ok_or_else(|| wrong("missing", place, format!("it has no `{name}`")))
        };
        let (hash, size) = (of("hash")?, of("size")?);
        let spelled: Option<String> = serde_json::from_str(hash.get()).ok();
        let parsed = spelled.as_deref().and_then(Hash::parse).ok_or_else(|| {
            let why = "the hash is not a SHA-256 of 64 hexadecimal digits".to_owned();
            wrong("bad_hash", text.offset(hash), why)
        })?;
        let plain = size.get().bytes().all(|byte| byte.is_ascii_digit());
        let number = size.get().parse::<u64>().ok().filter(|size| plain && *size <= LARGEST);
        let number = number.ok_or_else(|| {
            let why = format!("the size {} is not a whole number from 0 to 2^53 - 1", size.get());
            wrong("bad_size", text.offset(size), why)
        })?;
        if (number == 0) != (parsed == EMPTY) {
            let why = "the hash and the size do not belong together: one is that of an empty file";
            return Err(wrong("bad_hash", text.offset(hash), why.to_owned()));
        }
        Ok(Self { path, hash: parsed, size: number, value })
    }

    /// Its members. It has been read once, so it is an object.
    fn entry(&self, text: Text<'a>) -> Option<Object<'a>> {
        Object::of(text, self.value)
    }
}

/// Why a text cannot be the name of a manifest.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_plain = !name.contains('/') && !name.chars().any(char::is_control);
    match (1..=255).contains(&name.len()) && is_plain && !matches!(name, "." | "..") {
        true => Ok(()),
        false => Err(format!(
            "the name {name:?} is not 1 to 255 bytes without slashes and control characters"
        )),
    }
}

/// Why a path could lead a restoring client out of its folder.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.contains('\0') {
        return Err("contains NUL");
    }
    if path.split('/').any(|segment| segment == "..") {
        return Err("climbs with `..`");
    }
    Ok(())
}

/// The names of an object's members that occur more than once.
fn twice<'b>(members: &'b [Member<'_>]) -> Option<&'b Member<'b>> {
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().find(|member| !seen.insert(&*member.name))
}

#[cfg(test)]
mod tests;
