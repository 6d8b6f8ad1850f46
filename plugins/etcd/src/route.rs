//! Paths below the mount: `[CLUSTER/]api/v1/backup`, and what is below that.

use keepgate_sdk::TimeName;

use crate::layout::Cluster;
use crate::name;

/// A path of this surface.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) cluster: Cluster,
    pub(crate) resource: Resource,
}

/// What the path names of the cluster.
#[derive(Debug)]
pub(crate) enum Resource {
    Backups,
    Backup(TimeName),
    /// By its id.
    Job(String),
}

impl Route {
    /// None if this surface has no such path.
    pub(crate) fn parse(segments: &[String], trailing_slash: bool) -> Option<Self> {
        if trailing_slash {
            return None;
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (cluster, below) = match segments.as_slice() {
            // The arm below still reaches a cluster named `api`.
            ["api", "v1", "backup", below @ ..] => (Cluster::main(), below),
            [cluster, "api", "v1", "backup", below @ ..] => (Cluster::new(cluster)?, below),
            _ => return None,
        };
        let resource = match below {
            [] => Resource::Backups,
            ["jobs", id] => Resource::Job((*id).to_owned()),
            [name] => Resource::Backup(name::FORM.parse(name)?),
            _ => return None,
        };
        Some(Self { cluster, resource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<(String, String)> {
        let segments: Vec<String> = path.split('|').map(str::to_owned).collect();
        let route = Route::parse(&segments, false)?;
        let resource = match route.resource {
            Resource::Backups => "backups".to_owned(),
            Resource::Backup(name) => name.to_string(),
            Resource::Job(id) => format!("job {id}"),
        };
        Some((route.cluster.name().to_owned(), resource))
    }

    #[test]
    fn a_cluster_may_be_named() {
        let name = "snapshot-20181220_024105.tar.gz";
        for (path, cluster, resource) in [
            ("api|v1|backup", "main", "backups"),
            ("main|api|v1|backup", "main", "backups"),
            ("other|api|v1|backup", "other", "backups"),
            ("api|api|v1|backup", "api", "backups"),
            (&format!("api|v1|backup|{name}"), "main", name),
            (&format!("other|api|v1|backup|{name}"), "other", name),
            ("api|v1|backup|jobs|01ABC", "main", "job 01ABC"),
        ] {
            assert_eq!(parse(path), Some((cluster.to_owned(), resource.to_owned())), "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "api",
            "api|v1",
            "api|v1|backupX",
            "api|v2|backup",
            "API|v1|backup",
            "|api|v1|backup",
            ".|api|v1|backup",
            "..|api|v1|backup",
            "a/b|api|v1|backup",
            "a\0|api|v1|backup",
            ".keepgate|api|v1|backup",
            "a|b|api|v1|backup",
            "api|v1|backup|",
            "api|v1|backup|..",
            "api|v1|backup|jobs",
            "api|v1|backup|jobs|x|y",
            "api|v1|backup|index",
            "api|v1|backup|index|snapshot-20181220_024105.tar.gz.json",
            "api|v1|backup|../snapshot-20181220_024105.tar.gz",
            "api|v1|backup|snapshot-20181220_024105.tar.gz.part",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        let segments = ["api", "v1", "backup"].map(str::to_owned);
        assert!(Route::parse(&segments, true).is_none(), "a slash at its end");
    }
}
