//! What is left out of a backup, by patterns as in `.gitignore`, without its exceptions.

use std::path::Path;

use anyhow::{Context as _, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The patterns of a backup.
#[derive(Clone, Debug)]
pub(crate) struct Omit(GlobSet);

impl Omit {
    /// A pattern with a slash in front is one at the top; any other fits at any depth.
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let plain = pattern.trim_end_matches('/');
            let glob = match plain.strip_prefix('/') {
                Some(top) => top.to_owned(),
                None if plain.starts_with("**/") => plain.to_owned(),
                None => format!("**/{plain}"),
            };
            let built = GlobBuilder::new(&glob).literal_separator(true).build();
            set.add(built.with_context(|| format!("--omit {pattern}"))?);
        }
        Ok(Self(set.build()?))
    }

    /// Whether a path, relative to the folder, is left out; what is below it is, too.
    pub(crate) fn fits(&self, path: &Path) -> bool {
        self.0.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_at_the_top_or_anywhere() {
        let omit = ["*.tmp", "/cache", "**/node_modules/", "a/b"].map(str::to_owned);
        let omit = Omit::new(&omit).unwrap();
        for path in ["x.tmp", "a/x.tmp", "cache", "node_modules", "a/node_modules", "a/b", "c/a/b"]
        {
            assert!(omit.fits(Path::new(path)), "{path}");
        }
        for path in ["x.tmpx", "a/cache", "modules", "a", "b"] {
            assert!(!omit.fits(Path::new(path)), "{path}");
        }
        assert!(Omit::new(&["[".to_owned()]).is_err());
    }
}
