//! How names travel. Names of files are bytes, and JSON has texts. A name that is UTF-8 travels as it is. Of any other, a
//! readable form is the key of the entry, and the bytes are beside it, in Base64 in the member `raw`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A relative path as a key, and its bytes if the key does not say them all. `taken` are the keys that there are.
pub(crate) fn to_key(path: &Path, taken: &mut BTreeSet<String>) -> (String, Option<String>) {
    if let Some(text) = path.to_str() {
        let key = format!("./{text}");
        if taken.insert(key.clone()) {
            return (key, None);
        }
    }
    let raw = BASE64_STANDARD.encode(path.as_os_str().as_bytes());
    let readable = format!("./{}", path.to_string_lossy());
    for number in 1.. {
        let key = if number == 1 { readable.clone() } else { format!("{readable}~{number}") };
        if taken.insert(key.clone()) {
            return (key, Some(raw));
        }
    }
    (readable, Some(raw))
}

/// The path of an entry; `None` if it could lead out of the folder.
pub(crate) fn to_path(key: &str, raw: Option<&str>) -> Option<PathBuf> {
    let bytes = match raw {
        Some(raw) => BASE64_STANDARD.decode(raw).ok()?,
        None => key.strip_prefix("./").unwrap_or(key).as_bytes().to_vec(),
    };
    let path = PathBuf::from(OsStr::from_bytes(&bytes));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !bytes.is_empty() && !bytes.contains(&0)).then_some(path)
}

/// Bytes as a text for people.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_travels() {
        let mut taken = BTreeSet::new();
        for bytes in [&b"a b/c\nd"[..], b"a\xffb", b"a\xfeb", "a\u{fffd}b".as_bytes(), b"100%"] {
            let path = Path::new(OsStr::from_bytes(bytes));
            let (key, raw) = to_key(path, &mut taken);
            assert_eq!(
                raw.is_some(),
                std::str::from_utf8(bytes).is_err() || key.ends_with('3'),
                "{key}"
            );
            assert_eq!(to_path(&key, raw.as_deref()).as_deref(), Some(path), "{key}");
        }
        assert_eq!(taken.len(), 5);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let climbing = BASE64_STANDARD.encode("../x");
        for (key, raw) in [
            ("../x", None),
            ("/x", None),
            ("./", None),
            ("a/../../x", None),
            ("a", Some(&*climbing)),
        ] {
            assert_eq!(to_path(key, raw), None, "{key}");
        }
    }
}
