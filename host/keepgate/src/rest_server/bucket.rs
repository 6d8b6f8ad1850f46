//! `--path s3:…`: a bucket as the data directory, written as restic writes it. rest-server itself has no such thing.
//! The keys come from the environment, as they do for restic.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::flags::Flags;

/// A bucket, or what is below a prefix in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// None for AWS.
    pub(super) endpoint: Option<String>,
    pub(super) bucket: String,
    pub(super) prefix: String,
}

impl Bucket {
    /// The bucket that a data directory names; none if it is a folder.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        let Some(place) = path.as_os_str().as_bytes().strip_prefix(b"s3:") else {
            return Ok(None);
        };
        let expected = || {
            format!(
                "--path {}: expected a bucket, for example \"s3:https://s3.example.com/bucket\" or \
                 \"s3:s3.amazonaws.com/bucket/folder\"",
                path.display()
            )
        };
        let place = std::str::from_utf8(place).with_context(expected)?;
        let (scheme, rest) = match place.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => bail!(expected()),
            None => ("https", place.trim_start_matches('/')),
        };
        let (server, name) = rest.split_once('/').with_context(expected)?;
        let name = name.trim_matches('/');
        let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
        if server.is_empty() || bucket.is_empty() {
            bail!(expected());
        }
        let is_aws = server == "s3.amazonaws.com";
        let endpoint = (!is_aws).then(|| format!("{scheme}://{server}"));
        Ok(Some(Self { endpoint, bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }

    /// The value of `s3` in a configuration.
    pub(super) fn toml(&self) -> String {
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: &str| table.insert(key.to_owned(), value.into());
        set("bucket", &self.bucket);
        set("prefix", &self.prefix);
        if let Some(endpoint) = &self.endpoint {
            set("endpoint", endpoint);
        }
        toml::Value::Table(table).to_string()
    }
}

/// Fails if a flag is missing that names a file which is in the data directory otherwise.
pub(super) fn check_files(flags: &Flags) -> Result<()> {
    let open = flags.no_auth || flags.proxy_auth_username.is_some();
    if flags.htpasswd_file.is_none() && !open {
        bail!("a bucket holds no .htpasswd; name the file with --htpasswd-file, or use --no-auth");
    }
    if flags.tls && (flags.tls_cert.is_none() || flags.tls_key.is_none()) {
        bail!("a bucket holds no certificate; name its files with --tls-cert and --tls-key");
    }
    if flags.group_accessible_repos {
        bail!("--group-accessible-repos applies only to a folder; a bucket has no file modes");
    }
    Ok(())
}

/// The gateway's own folder for this bucket, such as for compiled plugins: below `$STATE_DIRECTORY`, which systemd
/// sets, or where a user's programs keep their state.
pub(super) fn state(path: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let home = || Some(variable("HOME")?.join(".local/state"));
    let folder = variable("STATE_DIRECTORY").or_else(|| variable("XDG_STATE_HOME")).or_else(home);
    let folder = folder.context(
        "cannot find a folder for the gateway's own files; set STATE_DIRECTORY, or HOME",
    )?;
    let digest = hex::encode(Sha256::digest(path.as_os_str().as_bytes()));
    let name = format!("rest-server-{}", digest.get(..16).unwrap_or(&digest));
    Ok(folder.join("keepgate").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Option<Bucket>> {
        Bucket::of(Path::new(path))
    }

    #[test]
    fn buckets_are_written_as_for_restic() {
        let bucket = |endpoint: Option<&str>, bucket: &str, prefix: &str| Bucket {
            endpoint: endpoint.map(str::to_owned),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (path, expected) in [
            ("s3:s3.amazonaws.com/b", bucket(None, "b", "")),
            (
                "s3:https://s3.example.com:9000/b/c/d/",
                bucket(Some("https://s3.example.com:9000"), "b", "c/d"),
            ),
            ("s3:http://[::1]:1/b", bucket(Some("http://[::1]:1"), "b", "")),
            ("s3:s3.example.com/b", bucket(Some("https://s3.example.com"), "b", "")),
            ("s3://s3.example.com/b", bucket(Some("https://s3.example.com"), "b", "")),
        ] {
            assert_eq!(parse(path).unwrap().unwrap(), expected, "{path}");
        }
        for path in ["/srv/backup", "s3", "./s3:x/y"] {
            assert_eq!(parse(path).unwrap(), None, "{path}");
        }
        for path in
            ["s3:", "s3:x", "s3:https://x", "s3:https://x/", "s3:https:///b", "s3:ftp://x/b"]
        {
            assert!(parse(path).unwrap_err().to_string().contains("expected a bucket"), "{path}");
        }
    }

    #[test]
    fn own_files_have_a_folder_for_each_bucket() {
        let of = |path: &str, known: &[(&str, &str)]| {
            let find = |name: &str| known.iter().find(|(known, _)| *known == name);
            state(Path::new(path), |name| Some(find(name)?.1.into()))
        };
        let home = of("s3:x/y", &[("HOME", "/home/a")]).unwrap();
        assert!(home.starts_with("/home/a/.local/state/keepgate"), "{home:?}");
        let known = [("HOME", "/home/a"), ("STATE_DIRECTORY", "/var/lib/x")];
        assert!(of("s3:x/y", &known).unwrap().starts_with("/var/lib/x/keepgate"));
        assert_ne!(of("s3:x/y", &known).unwrap(), of("s3:x/z", &known).unwrap());
        of("s3:x/y", &[]).unwrap_err();
    }
}
