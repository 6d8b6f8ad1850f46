//! `[store.NAME]`, where blobs are: in a folder, or in a bucket of S3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use keepgate_certificates::file;
use keepgate_store::Clock;
use keepgate_store::guard::{Periods, Policy};
use keepgate_store::memory::MemoryStore;
use keepgate_store_s3::{Credentials, Lock, LockMode, OnDelete, S3Options, S3Store, StoreMetrics};
use serde::Deserialize;
use toml::Spanned;

use super::{Config, Interval, Problems, Size, names};

/// `[store.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// A folder.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// A bucket, instead of a folder.
    #[serde(default)]
    pub(crate) s3: Option<Spanned<Bucket>>,
    #[serde(default)]
    pub(crate) group_accessible: Option<bool>,
    /// Whether the folder must be a mount point. By default it must be one from the moment it was one.
    #[serde(default)]
    pub(crate) require_mount: Option<bool>,
    /// A file that must exist in the folder.
    #[serde(default)]
    pub(crate) marker: Option<Spanned<String>>,
    /// Whether symbolic links in the folder are followed.
    #[serde(default)]
    pub(crate) follow_symlinks: Option<bool>,
    /// The maximum size of all blobs.
    #[serde(default)]
    pub(crate) quota: Option<Size>,
    /// The most blobs and folders; by default a number that goes with the quota.
    #[serde(default)]
    pub(crate) quota_entries: Option<Spanned<u64>>,
    /// How long blobs can be neither deleted nor replaced, through whatever mount.
    #[serde(default)]
    pub(crate) retain: Option<Interval>,
    /// Patterns of keys that `retain` does not protect.
    #[serde(default)]
    pub(crate) retain_except: Option<Spanned<Vec<String>>>,
    /// How often quotas count all blobs again.
    #[serde(default)]
    pub(crate) recount: Option<Interval>,
}

/// `s3 = { … }` of a store. What is missing has the default of [`S3Options`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bucket {
    pub(crate) bucket: String,
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    /// The server's URL. AWS by default.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    #[serde(default)]
    pub(crate) region: Option<String>,
    /// By default, for every server but AWS.
    #[serde(default)]
    pub(crate) path_style: Option<bool>,
    /// A profile of AWS' own configuration files.
    #[serde(default)]
    pub(crate) profile: Option<Spanned<String>>,
    /// Files with the access key's id, the secret key and the session token.
    #[serde(default)]
    pub(crate) key_id_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(crate) secret_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(crate) token_file: Option<Spanned<PathBuf>>,
    /// Defaults to the system's certificates.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    #[serde(default)]
    pub(crate) proxy: Option<String>,
    #[serde(default)]
    pub(crate) single_writer: bool,
    /// The cluster that gives the gateways of this bucket turns, if the server cannot keep them apart.
    #[serde(default)]
    pub(crate) coordinated_by: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) connect_timeout: Option<Interval>,
    #[serde(default)]
    pub(crate) request_timeout: Option<Interval>,
    #[serde(default)]
    pub(crate) stall: Option<Interval>,
    #[serde(default)]
    pub(crate) give_up_after: Option<Interval>,
    #[serde(default)]
    pub(crate) requests: Option<Spanned<usize>>,
    #[serde(default)]
    pub(crate) single_put: Option<Size>,
    #[serde(default)]
    pub(crate) part_size: Option<Size>,
    #[serde(default)]
    pub(crate) parallel_parts: Option<Spanned<usize>>,
    #[serde(default)]
    pub(crate) memory: Option<Size>,
    #[serde(default)]
    pub(crate) abandoned_after: Option<Interval>,
    #[serde(default)]
    pub(crate) delete: Delete,
    #[serde(default)]
    pub(crate) lock: Option<ObjectLock>,
}

/// What a removed blob leaves in a bucket with versions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Delete {
    /// Its versions, which are left to the bucket's own rules.
    #[default]
    Latest,
    /// Nothing.
    AllVersions,
}

/// Retention by the server, which nobody can lift.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectLock {
    pub(crate) mode: Mode,
    #[serde(rename = "for")]
    pub(crate) period: Interval,
    /// Patterns of keys that are not locked.
    #[serde(default)]
    pub(crate) except: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Governance,
    Compliance,
}

impl Store {
    /// Where a folder of the store is, so that two can be compared: what is inside a folder begins with its path. For a
    /// bucket, the path is made of server, bucket and prefix. None if the store has no place, which is reported.
    pub(crate) fn place(&self, folder: &str) -> Option<PathBuf> {
        let top = match (&self.path, &self.s3) {
            (Some(path), _) => path.clone(),
            (None, Some(bucket)) => {
                let Bucket { bucket, prefix, endpoint, .. } = bucket.get_ref();
                let prefix = prefix.as_deref().unwrap_or_default().trim_matches('/');
                let endpoint = endpoint.as_deref().unwrap_or("AWS").trim_end_matches('/');
                Path::new("s3:").join(endpoint).join(bucket).join(prefix)
            }
            (None, None) => return None,
        };
        Some(top.components().chain(Path::new(folder).components()).collect())
    }

    /// What holds whatever the mounts allow.
    pub(crate) fn policy(&self) -> Policy {
        let except = self.retain_except.as_ref().map(|except| except.get_ref().clone());
        Policy {
            retain: Periods { all: self.retain.map(|period| period.0), ..Periods::default() },
            except: except.unwrap_or_default(),
            ..Policy::default()
        }
    }

    /// The folder, or nothing if this is a bucket.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let bucket = self.s3.iter_mut().flat_map(|bucket| bucket.get_mut().paths());
        self.path.iter_mut().chain(bucket)
    }
}

impl Bucket {
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let keys = [&mut self.key_id_file, &mut self.secret_file, &mut self.token_file];
        let keys = keys.into_iter().flatten().map(Spanned::get_mut);
        keys.chain(&mut self.ca)
    }

    /// The options of the store, but for what coordinates it. Reads the file of authorities.
    pub(crate) fn to_options(&self, metrics: Option<StoreMetrics>) -> Result<S3Options> {
        let default = S3Options::new(self.bucket.clone());
        let trust = match &self.ca {
            Some(file) => file::certificates(file).context("ca")?,
            None => Vec::new(),
        };
        let or = |given: Option<Interval>, default| given.map_or(default, |Interval(time)| time);
        let size = |given: Option<Size>, default| given.map_or(default, |Size(size)| size);
        Ok(S3Options {
            prefix: self.prefix.clone().unwrap_or_default(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone().or_else(region).unwrap_or(default.region),
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            credentials: self.credentials(),
            trust,
            proxy: self.proxy.clone(),
            single_writer: self.single_writer,
            read_only: self.read_only,
            connect_timeout: or(self.connect_timeout, default.connect_timeout),
            request_timeout: or(self.request_timeout, default.request_timeout),
            idle_timeout: or(self.stall, default.idle_timeout),
            budget: or(self.give_up_after, default.budget),
            max_requests: self.requests.as_ref().map_or(default.max_requests, |max| *max.get_ref()),
            single_put: size(self.single_put, default.single_put),
            part_size: size(self.part_size, default.part_size),
            parallel_parts: self
                .parallel_parts
                .as_ref()
                .map_or(default.parallel_parts, |parts| *parts.get_ref()),
            memory: size(self.memory, default.memory),
            abandoned_after: or(self.abandoned_after, default.abandoned_after),
            delete: match self.delete {
                Delete::Latest => OnDelete::Latest,
                Delete::AllVersions => OnDelete::AllVersions,
            },
            lock: self.lock.as_ref().map(ObjectLock::to_lock),
            metrics,
            ..default
        })
    }

    fn credentials(&self) -> Credentials {
        match (&self.key_id_file, &self.secret_file) {
            (Some(id), Some(secret)) => Credentials::Files {
                id: id.get_ref().clone(),
                secret: secret.get_ref().clone(),
                token: self.token_file.as_ref().map(|token| token.get_ref().clone()),
            },
            _ => {
                let profile = self.profile.as_ref().map(|profile| profile.get_ref().clone());
                Credentials::Chain { profile }
            }
        }
    }
}

/// The region of the environment, where AWS' own tools find it.
fn region() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|region| !region.is_empty());
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

impl ObjectLock {
    fn to_lock(&self) -> Lock {
        let Interval(period) = self.period;
        let mode = match self.mode {
            Mode::Governance => LockMode::Governance,
            Mode::Compliance => LockMode::Compliance,
        };
        // restic removes its own locks.
        let locks = || vec!["**/locks/*".to_owned()];
        Lock { mode, period, except: self.except.clone().unwrap_or_else(locks) }
    }
}

pub(super) fn check(config: &Config, problems: &mut Problems) {
    for (name, store) in &config.store {
        let (span, store) = (store.span(), store.get_ref());
        match (&store.path, &store.s3) {
            (Some(_), None) => {}
            (None, Some(bucket)) => {
                check_bucket(name, store, bucket, problems);
                check_coordination(config, name, bucket.get_ref(), problems);
            }
            (None, None) => {
                let message = format!(
                    "[store.{name}] has no place for blobs; add `path` for a folder, or `s3` for a bucket"
                );
                problems.add(span, message);
            }
            (Some(_), Some(bucket)) => {
                let message = format!("[store.{name}] has both `path` and `s3`; keep one of them");
                problems.add(bucket.span(), message);
            }
        }
        check_marker(name, store, problems);
        if let (None, Some(entries)) = (&store.quota, &store.quota_entries) {
            problems.add(entries.span(), format!("[store.{name}] `quota_entries` needs `quota`"));
        }
        if let Some(except) = &store.retain_except {
            if store.retain.is_none() {
                let message = format!("[store.{name}] `retain_except` needs `retain`");
                problems.add(except.span(), message);
            }
            let tried = store.policy().guard(Arc::new(MemoryStore::new()), &Clock::default());
            if let Err(error) = tried {
                problems.add(except.span(), format!("[store.{name}] retain_except: {error}"));
            }
        }
    }
}

fn check_marker(name: &str, store: &Store, problems: &mut Problems) {
    let Some(marker) = &store.marker else { return };
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !marker.get_ref().split('/').all(plain) {
        let message = format!(
            "[store.{name}] marker {:?}: expected a path below the store's folder such as \
             \".keepgate/disk\"",
            marker.get_ref()
        );
        problems.add(marker.span(), message);
    }
}

fn check_bucket(name: &str, store: &Store, bucket: &Spanned<Bucket>, problems: &mut Problems) {
    let (span, bucket) = (bucket.span(), bucket.get_ref());
    let about = format!("[store.{name}]");
    for (key, given) in [
        ("group_accessible", store.group_accessible.is_some()),
        ("require_mount", store.require_mount.is_some()),
        ("marker", store.marker.is_some()),
        ("follow_symlinks", store.follow_symlinks.is_some()),
    ] {
        if given {
            let message = format!("{about} `{key}` applies only to a folder; remove it");
            problems.add(span.clone(), message);
        }
    }
    match (&bucket.key_id_file, &bucket.secret_file, &bucket.token_file) {
        (Some(file), None, _) => {
            problems.add(file.span(), format!("{about} `key_id_file` needs `secret_file`"));
        }
        (None, Some(file), _) | (None, None, Some(file)) => {
            problems.add(file.span(), format!("{about} needs `key_id_file` and `secret_file`"));
        }
        _ => {}
    }
    if let (Some(profile), Some(_)) = (&bucket.profile, &bucket.key_id_file) {
        let message = format!("{about} has both `profile` and `key_id_file`; keep one of them");
        problems.add(profile.span(), message);
    }
    for (key, number) in
        [("requests", &bucket.requests), ("parallel_parts", &bucket.parallel_parts)]
    {
        if let Some(number) = number
            && *number.get_ref() == 0
        {
            problems.add(number.span(), format!("{about} {key} must be at least 1"));
        }
    }
    // Files are left to whoever opens the store.
    let without_files = Bucket {
        ca: None,
        key_id_file: None,
        secret_file: None,
        token_file: None,
        ..bucket.clone()
    };
    let made = without_files.to_options(None).and_then(|options| Ok(S3Store::new(options)?));
    if let Err(error) = made {
        problems.add(span, format!("{about} {error:#}"));
    }
}

fn check_coordination(config: &Config, name: &str, bucket: &Bucket, problems: &mut Problems) {
    let Some(cluster) = &bucket.coordinated_by else { return };
    let mut add = |what: &str| problems.add(cluster.span(), format!("[store.{name}] {what}"));
    if !config.etcd.contains_key(cluster.get_ref()) {
        let known = names(config.etcd.keys());
        add(&format!(
            "coordinated_by: unknown etcd cluster {:?}; configured clusters: {known}",
            cluster.get_ref()
        ));
    }
    if bucket.single_writer {
        add("has both `single_writer` and `coordinated_by`; keep one of them");
    }
}

/// Relative paths are relative to the configuration's folder.
pub(super) fn resolve(config: &mut Config, base: &Path) {
    for path in config.store.values_mut().flat_map(|store| store.get_mut().paths()) {
        *path = base.join(&*path);
    }
}
