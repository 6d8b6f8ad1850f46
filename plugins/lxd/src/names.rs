//! Names of instances and projects, as LXD allows them, and of backups.

use keepgate_sdk::{Failure, TimeNames, is_key_segment};

/// Names of backups. `%M%S`, without a hyphen, is lxmin's. lxmin's own times are local, and its names have no numbers.
pub(crate) const FORM: TimeNames =
    TimeNames::new("backup_%Y-%m-%d-%H-%M%S").numbered("-", 1, 99).suffixes(&["", SUFFIX]);

/// What names of backups end with in answers; paths may leave it out.
pub(crate) const SUFFIX: &str = ".tar.gz";

/// LXD's name of the project that exists without anybody making it.
pub(crate) const DEFAULT_PROJECT: &str = "default";

/// An instance of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) project: String,
    pub(crate) name: String,
}

impl Instance {
    /// Fails with [`Failure::Invalid`] for names that LXD would not allow.
    pub(crate) fn new(project: &str, name: &str) -> Result<Self, Failure> {
        if !is_instance(name) {
            return Err(Failure::Invalid(format!(
                "invalid instance name {name:?}: 1 to 63 letters, digits and hyphens are allowed, with a letter at the \
                 beginning and no hyphen at the end"
            )));
        }
        check_project(project)?;
        Ok(Self { project: project.to_owned(), name: name.to_owned() })
    }

    /// The key of its jobs, which run one after another.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.project, self.name)
    }
}

/// Fails with [`Failure::Invalid`] for a name that no project can have.
pub(crate) fn check_project(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '\'' | '"' | '\\' | '*' | '_');
    if name.len() <= 63 && is_key_segment(name) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::Invalid(format!("invalid project name {name:?}")))
}

/// LXD's rule: 1 to 63 letters, digits and hyphens, with a letter at the beginning and no hyphen at the end.
pub(crate) fn is_instance(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A backup's name without its suffix, as it is in the names of objects. Fails with [`Failure::Invalid`] for what
/// cannot be part of one.
pub(crate) fn base(name: &str) -> Result<&str, Failure> {
    let base = name.strip_suffix(SUFFIX).unwrap_or(name);
    match is_key_segment(base) && base.len() <= 128 {
        true => Ok(base),
        false => Err(Failure::Invalid(format!("invalid backup name {name:?}"))),
    }
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_named_as_in_lxd() {
        let longest = "a".repeat(63);
        for name in ["a", "u2", "A-1", &longest] {
            assert!(is_instance(name), "{name:?}");
        }
        let longer = "a".repeat(64);
        for name in ["", "2u", "-a", "a-", "a_b", "a.b", "a/b", "..", "é", "a b", &longer] {
            assert!(!is_instance(name), "{name:?}");
        }
    }

    #[test]
    fn backups_are_named_with_and_without_a_suffix() {
        for name in ["backup_2022-02-16-04-1040", "backup_2022-02-16-04-1040.tar.gz"] {
            assert_eq!(base(name).unwrap(), "backup_2022-02-16-04-1040");
        }
        for name in ["", ".tar.gz", "..", "...tar.gz", "a/b", "\0"] {
            assert!(base(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("*", "u2", true),
            ("u*", "u2", true),
            ("u*", "v2", false),
            ("u2", "u2", true),
            ("u2", "u20", false),
            ("*-db", "x-db", true),
            ("*-db", "x-db1", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("aa*a", "aa", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
