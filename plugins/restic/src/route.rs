//! Paths of the REST backend, as rest-server reads them.
//!
//! At most two segments name the repository; the first that is a reserved word ends the name, and
//! the last segment never belongs to it. What follows must be exactly one of the resources.

use keepgate_sdk::{is_sha256, join_key};

/// The types of restic's blobs, which are the names of their folders.
pub(crate) const TYPES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];
/// The maximum number of folders in a repository's name.
const MAX_DEPTH: usize = 2;

/// A path of this surface.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Folders joined by `/`; empty for the repository at the mount's top.
    pub(crate) repository: String,
    pub(crate) resource: Resource,
}

/// What the path means within the repository.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Repository,
    Config,
    List(&'static str),
    /// Type and id.
    Blob(&'static str, String),
}

impl Route {
    /// `None` if a repository does not have this path.
    pub(crate) fn parse(segments: &[String], trailing_slash: bool) -> Option<Self> {
        // An encoded slash separates segments like a plain one.
        let mut parts: Vec<&str> = segments.iter().flat_map(|segment| segment.split('/')).collect();
        // The mount's own path means the same with and without a trailing slash.
        if trailing_slash || parts.is_empty() {
            parts.push("");
        }
        let reserved = |part: &&str| *part == "config" || TYPES.contains(part);
        let depth = parts
            .iter()
            .take(parts.len() - 1)
            .take(MAX_DEPTH)
            .take_while(|part| !reserved(part))
            .count();
        let (folders, rest) = parts.split_at_checked(depth)?;
        if !folders.iter().all(|name| !matches!(*name, "" | "." | "..") && !name.contains('\0')) {
            return None;
        }
        let resource = match rest {
            [""] => Resource::Repository,
            ["config"] => Resource::Config,
            [kind, ""] => Resource::List(known(kind)?),
            [kind, id] if is_sha256(id) => Resource::Blob(known(kind)?, (*id).to_owned()),
            _ => return None,
        };
        Some(Self { repository: folders.join("/"), resource })
    }

    /// Whether the repository is below a folder of the user's name.
    pub(crate) fn belongs_to(&self, user: &str) -> bool {
        !user.is_empty() && self.repository.split('/').next() == Some(user)
    }

    /// The key of the resource: restic's local layout.
    pub(crate) fn key(&self) -> String {
        match &self.resource {
            Resource::Repository => self.repository.clone(),
            Resource::Config => self.below("config"),
            Resource::List(kind) => self.below(kind),
            Resource::Blob("data", id) => {
                self.below(&format!("data/{}/{id}", id.get(..2).unwrap_or_default()))
            }
            Resource::Blob(kind, id) => self.below(&format!("{kind}/{id}")),
        }
    }

    /// The type, for metrics; empty if there is none.
    pub(crate) fn kind(&self) -> &'static str {
        match self.resource {
            Resource::List(kind) | Resource::Blob(kind, _) => kind,
            Resource::Repository | Resource::Config => "",
        }
    }

    /// Every folder of the repository.
    pub(crate) fn folders(&self) -> Vec<String> {
        let types = TYPES.iter().map(|kind| self.below(kind));
        let data = (0..=255).map(|byte| self.below(&format!("data/{byte:02x}")));
        types.chain(data).collect()
    }

    fn below(&self, name: &str) -> String {
        join_key(&self.repository, name)
    }
}

fn known(kind: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == kind)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(path: &str) -> Option<Route> {
        let path = path.strip_prefix('/').unwrap();
        let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let trailing_slash = segments.last().is_some_and(String::is_empty);
        if trailing_slash {
            segments.pop();
        }
        Route::parse(&segments, trailing_slash)
    }

    fn route(repository: &str, resource: Resource) -> Option<Route> {
        Some(Route { repository: repository.to_owned(), resource })
    }

    #[test]
    fn repositories_have_up_to_two_folders() {
        assert_eq!(parse("/"), route("", Resource::Repository));
        assert_eq!(parse("/foo/"), route("foo", Resource::Repository));
        assert_eq!(parse("/foo/bar/"), route("foo/bar", Resource::Repository));
        assert_eq!(parse("/foo/bar/baz/"), None);
        assert_eq!(parse("/foo"), None);
        assert_eq!(parse("/foo/config"), route("foo", Resource::Config));
        assert_eq!(parse("/ä b/ü.x/data/"), route("ä b/ü.x", Resource::List("data")));
    }

    #[test]
    fn reserved_words_end_the_name() {
        assert_eq!(parse("/data/"), route("", Resource::List("data")));
        assert_eq!(parse("/foo/locks/"), route("foo", Resource::List("locks")));
        assert_eq!(parse("/data/foo/"), None);
        assert_eq!(parse("/config/"), None);
        assert_eq!(parse("/data"), None);
    }

    #[test]
    fn blobs_are_named_by_ids() {
        let blob = |kind| Resource::Blob(kind, ID.to_owned());
        assert_eq!(parse(&format!("/data/{ID}")), route("", blob("data")));
        assert_eq!(parse(&format!("/a/b/keys/{ID}")), route("a/b", blob("keys")));
        assert_eq!(parse(&format!("/data/01/{ID}")), None);
        assert_eq!(parse(&format!("/data/{}", ID.to_uppercase())), None);
        assert_eq!(parse(&format!("/data/{ID}0")), None);
        assert_eq!(parse("/data/0123"), None);
        assert_eq!(parse(&format!("/other/{ID}")), None);
        assert_eq!(parse(&format!("/data/{ID}/")), None);
    }

    #[test]
    fn dots_nuls_and_empty_names_are_nothing() {
        for path in ["//", "/./", "/../", "/foo/../", "/foo//", "/.../../config", "/a\0b/config"] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse("/.../"), route("...", Resource::Repository));
    }

    #[test]
    fn an_encoded_slash_separates() {
        let segments = ["foo/bar".to_owned(), "config".to_owned()];
        assert_eq!(Route::parse(&segments, false), route("foo/bar", Resource::Config));
        let segments = ["foo/../bar".to_owned(), "config".to_owned()];
        assert_eq!(Route::parse(&segments, false), None);
    }

    #[test]
    fn users_own_what_is_below_their_name() {
        let repository = |name| route(name, Resource::Repository).unwrap();
        assert!(repository("alice").belongs_to("alice"));
        assert!(repository("alice/x").belongs_to("alice"));
        assert!(!repository("alice2").belongs_to("alice"));
        assert!(!repository("").belongs_to("alice"));
        assert!(!repository("").belongs_to(""));
    }

    #[test]
    fn keys_are_those_of_the_local_backend() {
        assert_eq!(parse(&format!("/r/data/{ID}")).unwrap().key(), format!("r/data/01/{ID}"));
        assert_eq!(parse(&format!("/locks/{ID}")).unwrap().key(), format!("locks/{ID}"));
        assert_eq!(parse("/r/config").unwrap().key(), "r/config");
        assert_eq!(parse("/r/").unwrap().folders().len(), 261);
    }
}
