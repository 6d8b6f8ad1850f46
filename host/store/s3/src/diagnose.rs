//! What `keepgate check --connect` tells about a bucket: it puts, reads, lists and removes a probe, and names each right
//! that is missing.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::attributes;
use crate::error::OpenError;
use crate::options::S3Options;
use crate::probe::{self, Capabilities};
use crate::remote::{Digests, Failure, Guard, Kept, LockState, Remote, Retention, Versioning};
use crate::state;

/// Seconds that clocks may differ in before it is worth a word; S3 refuses requests from 15 minutes on.
const SKEW: i64 = 60;
/// How long the locked probe is kept.
const PROBE_LOCK: Duration = Duration::from_secs(2);

/// What was found out about a bucket. The texts are for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What the bucket can do.
    pub lines: Vec<String>,
    /// What must be mended before the gateway can use it.
    pub problems: Vec<String>,
}

/// Looks at a bucket with all rights that the gateway needs, and removes what it wrote.
pub async fn diagnose(options: &S3Options) -> Diagnosis {
    let mut found = Diagnosis::default();
    if let Some(problem) = options.problem() {
        found.problems.push(problem);
        return found;
    }
    match Remote::new(options.clone()).await {
        Ok(remote) => Box::pin(Examination { remote, found }.run()).await,
        Err(problem) => {
            found.problems.push(problem);
            found
        }
    }
}

struct Examination {
    remote: Remote,
    found: Diagnosis,
}

impl Examination {
    async fn run(mut self) -> Diagnosis {
        self.say(self.remote.options.place());
        let usable = self.rights().await;
        self.clock();
        if usable && !self.remote.options.read_only {
            self.capabilities().await;
        }
        self.found
    }

    fn say(&mut self, line: impl Display) {
        self.found.lines.push(line.to_string());
    }

    /// Notes what came of a request that needs a right.
    fn needs<T>(&mut self, right: &str, done: Result<T, Failure>) -> Option<T> {
        let failure = match done {
            Ok(done) => return Some(done),
            Err(failure) => failure,
        };
        let problem = match failure {
            Failure::Refused(reason) => format!("missing right {right}: {reason}"),
            Failure::Unavailable(reason) | Failure::Suspended(reason) => reason,
            other => format!("{right}: {}", OpenError::of(&self.remote.options.place(), other)),
        };
        self.found.problems.push(problem);
        None
    }

    /// Tries each right. Returns whether the probe can go on.
    async fn rights(&mut self) -> bool {
        let prefix = self.remote.options.folder();
        let listed = self.remote.list(&prefix, false, None, None, 1).await;
        // Without an answer, or with wrong keys, there is nothing more to find out.
        if let Err(Failure::Refused(reason) | Failure::Unavailable(reason)) = &listed
            && !reason.contains("AccessDenied")
        {
            self.found.problems.push(reason.clone());
            return false;
        }
        self.needs("s3:ListBucket", listed);
        if self.remote.options.read_only {
            self.reading(&prefix).await;
            return true;
        }
        let token = match attributes::token() {
            Ok(token) => token,
            Err(error) => {
                self.found.problems.push(error.to_string());
                return false;
            }
        };
        let object = format!("{prefix}{}/probe/{token}", keepgate_store::key::RESERVED);
        let with = Capabilities::default();
        let put = self.remote.put_own(&with, &object, "probe", &Guard::None).await;
        let Some(version) = self.needs("s3:PutObject", put) else { return false };
        let got = self.remote.get(&object, None, None).await;
        self.needs("s3:GetObject", got);
        self.tags(&object).await;
        let kept = Kept { content_type: "text/plain".to_owned(), ..Kept::default() };
        let begun = self.remote.begin_parts(&with, &object, &kept, false).await;
        if let Some(upload) = self.needs("s3:PutObject", begun) {
            let aborted = self.remote.abort(&object, &upload).await;
            self.needs("s3:AbortMultipartUpload", aborted);
        }
        self.versions(&object, version.as_deref()).await;
        self.lock(&object).await;
        let deleted = self.remote.delete(&object, &Guard::None).await;
        self.needs("s3:DeleteObject", deleted);
        if version.is_some()
            && let Ok(versions) = self.remote.versions(&object).await
        {
            for version in versions {
                // What is locked is gone in a moment, but not yet.
                let _ = self.remote.remove_version(&object, &version.id).await;
            }
        }
        self.found.problems.is_empty()
    }

    /// Versions, and the rights that they need: the gateway removes its own objects with all of theirs.
    async fn versions(&mut self, object: &str, version: Option<&str>) {
        match self.remote.versioning().await {
            Ok(Versioning::On) => self.say("versions: kept"),
            Ok(Versioning::Suspended) => self.say("versions: no longer kept; older ones stay"),
            Ok(Versioning::Off) => self.say("versions: not kept"),
            Err(Failure::Refused(_)) => {
                self.say("versions: unknown, since s3:GetBucketVersioning is not granted");
            }
            Err(_) => self.say("versions: unknown"),
        }
        if let Some(version) = version {
            let listed = self.remote.versions(object).await;
            self.needs("s3:ListBucketVersions", listed);
            let removed = self.remote.remove_version(object, version).await;
            self.needs("s3:DeleteObjectVersion", removed);
        }
    }

    /// Object lock: what the bucket says, and whether a blob can be stored with a retention.
    async fn lock(&mut self, object: &str) {
        let state = self.remote.lock_state().await;
        match &state {
            Ok(LockState::On { by_default: false }) => self.say("object lock: possible"),
            Ok(LockState::On { by_default: true }) => {
                self.say("object lock: the bucket locks each object by default");
                self.say(
                    "note: the bucket's default retention also keeps the gateway's own small objects and restic's \
                     locks; `lock` of the store keeps only blobs",
                );
            }
            Ok(LockState::Off) | Err(Failure::Unsupported) => self.say("object lock: not possible"),
            Err(Failure::Refused(_)) => self.say(
                "object lock: unknown, since s3:GetBucketObjectLockConfiguration is not granted",
            ),
            Err(_) => self.say("object lock: unknown"),
        }
        let Some(lock) = &self.remote.options.lock else { return };
        if matches!(state, Ok(LockState::Off) | Err(Failure::Unsupported)) {
            self.found.problems.push(
                "the bucket cannot lock objects; create one with object lock, or remove `lock`"
                    .to_owned(),
            );
            return;
        }
        let retention = Retention { mode: lock.mode, until: SystemTime::now() + PROBE_LOCK };
        let kept = Kept {
            content_type: "text/plain".to_owned(),
            retention: Some(retention),
            ..Kept::default()
        };
        let bytes = Bytes::from_static(b"probe");
        let bytes = (bytes.clone(), Digests::of(&bytes));
        let with = Capabilities::default();
        let put = self.remote.put(&with, object, bytes, &kept, &Guard::None).await;
        if let Some(version) = self.needs("s3:PutObjectRetention", put) {
            let version = version.unwrap_or_default();
            let kept = self.remote.remove_version(object, &version).await.is_err();
            self.say(format!("a locked probe: {}", if kept { "kept" } else { "not kept" }));
            if !kept {
                self.found.problems.push("the server ignores retention of objects".to_owned());
            }
            tokio::time::sleep(PROBE_LOCK + Duration::from_secs(2)).await;
        }
    }

    /// A reader's rights, with any object that is there.
    async fn reading(&mut self, prefix: &str) {
        let page = self.remote.list(prefix, false, None, None, 1).await;
        let Ok(page) = page else { return };
        match page.objects.first() {
            Some(object) => {
                let got = self.remote.get(&object.name, None, None).await;
                if self.needs("s3:GetObject", got).is_some() {
                    self.say("listed and read; the store is read-only, so nothing was written");
                }
            }
            None => self.say("listed; there is no object, so reading could not be tried"),
        }
    }

    /// Tags are used if the server keeps them, and then both rights are needed.
    async fn tags(&mut self, object: &str) {
        let bytes = Bytes::from_static(b"probe");
        let digests = Digests::of(&bytes);
        let tagging = Some("probe=1".to_owned());
        let kept = Kept { content_type: "text/plain".to_owned(), tagging, ..Kept::default() };
        let with = Capabilities::default();
        let put = self.remote.put(&with, object, (bytes, digests), &kept, &Guard::None).await;
        if let Err(failure @ Failure::Refused(_)) = put {
            self.needs::<()>("s3:PutObjectTagging", Err(failure));
        }
        if let Err(failure @ Failure::Refused(_)) = self.remote.tags(object).await {
            self.needs::<()>("s3:GetObjectTagging", Err(failure));
        }
    }

    fn clock(&mut self) {
        match self.remote.skew() {
            Some(skew) if skew.abs() >= SKEW => {
                let direction = if skew > 0 { "behind" } else { "ahead of" };
                self.found.problems.push(format!(
                    "this machine's clock is {} seconds {direction} the server's; set it",
                    skew.abs()
                ));
            }
            Some(skew) => self.say(format!("clocks differ by {} seconds", skew.abs())),
            None => {}
        }
    }

    async fn capabilities(&mut self) {
        let folder = probe::folder(&self.remote.options.folder());
        let probed = Box::pin(probe::probe(&self.remote, &folder)).await;
        let Some(found) = self.needs("the probe", probed) else { return };
        found.to_string().lines().for_each(|line| self.say(line));
        if !found.can_be_shared() && !self.remote.options.keeps_writers_apart() {
            let place = self.remote.options.place();
            self.found.problems.push(OpenError::NotAtomic { place }.to_string());
        }
        for limitation in state::limitations(&found, &self.remote.options) {
            self.say(format!("note: {limitation}"));
        }
    }
}
