//! What a bucket can do, found out by doing it: servers differ, and a name or a version does not tell.
//!
//! Conditional writes matter most. Some servers ignore the condition, when an object in parts is completed
//! (Ceph 16), or keep it only while nobody else writes (s3s-fs).

use std::fmt;

use bytes::Bytes;
use futures_util::future::join_all;
use keepgate_store::Result;

use crate::attributes;
use crate::remote::{Digests, Failure, Guard, Kept, Remote};

/// The folder of probes, among the gateway's own objects.
pub(crate) const PROBES: &str = "probe";
/// Writers that try to be first at the same time, and how often. A server that is busy may serve them one after the other
/// although it does not have to: with three rounds, one gateway in ten saw nothing of a race (2026-12).
const WRITERS: usize = 8;
const ROUNDS: usize = 8;

/// What a bucket can do. Whatever was not found out is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// An object is not replaced if its writer wants none to be there.
    pub put_if_absent: bool,
    /// Of writers that want the same, at the same time, one wins.
    pub put_is_atomic: bool,
    /// An object in parts minds the same conditions.
    pub complete_if_absent: bool,
    /// An object is replaced only if it is the one that its writer knows.
    pub if_match: IfMatch,
    /// An object is removed only if it is the one that its remover knows.
    pub delete_if_match: bool,
    /// Wrong SHA-256 of an object are refused, and the object is not stored.
    pub sha256: bool,
    /// Wrong SHA-256 of a part are refused.
    pub part_sha256: bool,
    /// They are refused even if the signature leaves the body out.
    pub unsigned: bool,
    /// Tags are kept.
    pub tags: bool,
    /// Tags of objects in parts are kept.
    pub part_tags: bool,
    /// The bucket keeps what is replaced or removed.
    pub versions: bool,
    /// An object that was removed counts as absent; with versions, to some servers it does not.
    pub absent_after_removal: bool,
}

/// How the server wants the etag that an object must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// It does not mind it.
    #[default]
    Ignored,
    /// With quotes, as HTTP has it.
    Quoted,
    /// Without quotes, as Ceph has it.
    Bare,
}

impl IfMatch {
    pub(crate) fn value(self, etag: &str) -> String {
        match self {
            Self::Bare => etag.to_owned(),
            Self::Quoted | Self::Ignored => format!("\"{etag}\""),
        }
    }
}

impl Capabilities {
    /// Whether several gateways can write to the bucket without coordination.
    pub fn can_be_shared(&self) -> bool {
        self.put_if_absent && self.put_is_atomic && self.if_match != IfMatch::Ignored
    }
}

/// A line for each, as `keepgate check --connect` shows them.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let replaces = self.if_match != IfMatch::Ignored;
        writeln!(f, "conditional writes: {}", word(self.put_if_absent))?;
        writeln!(f, "of writers at the same time one wins: {}", word(self.put_is_atomic))?;
        writeln!(f, "conditional completion of uploads: {}", word(self.complete_if_absent))?;
        writeln!(f, "conditional replacing: {}", word(replaces))?;
        writeln!(f, "conditional removing: {}", word(self.delete_if_match))?;
        let (sha256, parts) = (word(self.sha256), word(self.part_sha256));
        writeln!(f, "SHA-256 checked by the server: {sha256}, of parts: {parts}")?;
        let (tags, parts) = (word(self.tags), word(self.part_tags));
        write!(f, "tags kept: {tags}, of objects in parts: {parts}")
    }
}

/// Where probes are, in a store with this prefix.
pub(crate) fn folder(prefix: &str) -> String {
    format!("{prefix}{}/{PROBES}", keepgate_store::key::RESERVED)
}

/// Finds out what the bucket can do. Fails if it cannot be written to at all.
pub(crate) async fn probe(remote: &Remote, folder: &str) -> Result<Capabilities, Failure> {
    let token = attributes::token().map_err(Failure::Store)?;
    let probe =
        Probe { remote, folder: format!("{folder}/{token}"), found: Capabilities::default() };
    let (found, used) = probe.run().await;
    // Left over, they are hidden, and cost nothing.
    if found.as_ref().is_ok_and(|found| found.versions) {
        let versions = remote.versions_below(&format!("{folder}/{token}"), false).await;
        for version in versions.unwrap_or_default() {
            let _ = remote.remove_version(&version.object, &version.id).await;
        }
    } else {
        for object in used {
            let _ = remote.delete(&object, &Guard::None).await;
        }
    }
    found
}

struct Probe<'a> {
    remote: &'a Remote,
    folder: String,
    found: Capabilities,
}

impl Probe<'_> {
    fn object(&self, name: &str) -> String {
        format!("{}-{name}", self.folder)
    }

    async fn run(mut self) -> (Result<Capabilities, Failure>, Vec<String>) {
        let mut used: Vec<_> = ["put", "sum", "part-sum", "free", "part-free", "parts", "again"]
            .map(|name| self.object(name))
            .to_vec();
        used.extend((0..ROUNDS).map(|round| self.object(&format!("race{round}"))));
        let found = Box::pin(self.find()).await.map(|()| self.found);
        (found, used)
    }

    async fn find(&mut self) -> Result<(), Failure> {
        let put = self.object("put");
        self.tags_of_put(&put).await?;
        self.found.put_if_absent = self.keeps(&put, &Guard::Absent).await?;
        if self.found.put_if_absent {
            self.found.put_is_atomic = self.writers_are_kept_apart().await?;
        }
        self.versions(&put).await?;
        self.if_match(&put).await?;
        self.found.complete_if_absent = self.parts(&put).await?;
        let wrong = Guard::Is("00000000000000000000000000000000".to_owned());
        self.found.delete_if_match = self.remote.delete(&put, &wrong).await.is_err()
            && self.remote.head(&put).await?.is_some();
        self.checksums().await
    }

    /// Stores the probe itself, with tags if they are taken.
    async fn tags_of_put(&mut self, put: &str) -> Result<(), Failure> {
        let bytes = Bytes::from_static(b"probe");
        let digests = Digests::of(&bytes);
        let mut kept = Kept { content_type: "text/plain".to_owned(), ..Kept::default() };
        kept.tagging = Some("probe=1".to_owned());
        let tagged = (bytes, digests);
        if self.remote.put(&self.found, put, tagged.clone(), &kept, &Guard::None).await.is_ok()
            && let Ok(tags) = self.remote.tags(put).await
        {
            self.found.tags = tags == [("probe".to_owned(), "1".to_owned())];
        }
        kept.tagging = None;
        self.remote.put(&self.found, put, tagged, &kept, &Guard::None).await.map(|_| ())
    }

    /// Whether the probe stays what it is in spite of a write that must fail.
    async fn keeps(&self, put: &str, guard: &Guard) -> Result<bool, Failure> {
        let before = self.remote.head(put).await?;
        let refused = self.remote.put_own(&self.found, put, "replaced", guard).await.is_err();
        let after = self.remote.head(put).await?;
        let same = before.map(|object| object.etag) == after.map(|object| object.etag);
        Ok(refused && same)
    }

    /// Whether there are versions, and whether something can be created again with them.
    async fn versions(&mut self, put: &str) -> Result<(), Failure> {
        let there = self.remote.head(put).await?;
        // In a bucket that has stopped keeping versions, all of them are called that.
        let version = there.and_then(|there| there.version).filter(|version| version != "null");
        self.found.versions = version.is_some();
        self.found.absent_after_removal = true;
        if self.found.versions && self.found.put_if_absent {
            let again = self.object("again");
            self.remote.put_own(&self.found, &again, "once", &Guard::Absent).await?;
            self.remote.delete(&again, &Guard::None).await?;
            let created = self.remote.put_own(&self.found, &again, "again", &Guard::Absent).await;
            self.found.absent_after_removal = match created {
                Ok(_) => true,
                Err(Failure::Condition | Failure::Conflict) => false,
                Err(failure) => return Err(failure),
            };
        }
        Ok(())
    }

    /// Whether of several writers one wins, as often as it is tried.
    async fn writers_are_kept_apart(&self) -> Result<bool, Failure> {
        for round in 0..ROUNDS {
            if !self.one_wins(&self.object(&format!("race{round}"))).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn one_wins(&self, object: &str) -> Result<bool, Failure> {
        let writers = (0..WRITERS).map(|writer| {
            self.remote.put_own(&self.found, object, format!("{writer}"), &Guard::Absent)
        });
        let winners = join_all(writers).await.into_iter().filter(Result::is_ok).count();
        Ok(winners == 1)
    }

    async fn if_match(&mut self, put: &str) -> Result<(), Failure> {
        let wrong = Guard::Is("00000000000000000000000000000000".to_owned());
        for form in [IfMatch::Quoted, IfMatch::Bare] {
            self.found.if_match = form;
            let Some(there) = self.remote.head(put).await? else { break };
            let right = Guard::Is(there.etag);
            let bytes = format!("{form:?}");
            if self.keeps(put, &wrong).await?
                && self.remote.put_own(&self.found, put, bytes, &right).await.is_ok()
            {
                return Ok(());
            }
        }
        self.found.if_match = IfMatch::Ignored;
        Ok(())
    }

    /// Whether objects in parts mind that there is one already, and whether their tags are kept.
    async fn parts(&mut self, put: &str) -> Result<bool, Failure> {
        let kept = Kept { content_type: "text/plain".to_owned(), ..Kept::default() };
        let before = self.remote.head(put).await?.map(|object| object.etag);
        let refused = self.in_parts(put, &kept, &Guard::Absent).await.is_err();
        let after = self.remote.head(put).await?.map(|object| object.etag);
        let tagged = self.object("parts");
        if self.found.tags {
            let kept = Kept { tagging: Some("probe=1".to_owned()), ..kept };
            self.found.part_tags = self.in_parts(&tagged, &kept, &Guard::None).await.is_ok()
                && self.remote.tags(&tagged).await.is_ok_and(|tags| tags.len() == 1);
        }
        Ok(refused && before == after)
    }

    async fn in_parts(&self, object: &str, kept: &Kept, guard: &Guard) -> Result<(), Failure> {
        let bytes = Bytes::from_static(b"in parts");
        let digests = Digests::of(&bytes);
        let upload = self.remote.begin_parts(&self.found, object, kept, false).await?;
        let completed = async {
            let place = (object, upload.as_str(), 1);
            let part = self.remote.put_part(&self.found, place, bytes, &digests, false).await?;
            self.remote.complete(&self.found, (object, &upload), &[part], guard).await
        };
        let completed = completed.await;
        if completed.is_err() {
            let _ = self.remote.abort(object, &upload).await;
        }
        completed
    }

    /// Which checksums are checked, first of bodies that are signed as well.
    async fn checksums(&mut self) -> Result<(), Failure> {
        let with = Capabilities { sha256: true, ..self.found.clone() };
        self.found.sha256 = self.minds_sha256("sum", &with).await?;
        let with = Capabilities { part_sha256: true, ..self.found.clone() };
        self.found.part_sha256 =
            self.found.sha256 && self.minds_part_sha256("part-sum", &with).await?;
        let with = Capabilities { unsigned: true, ..self.found.clone() };
        self.found.unsigned = self.found.sha256
            && self.minds_sha256("free", &with).await?
            && (!self.found.part_sha256 || self.minds_part_sha256("part-free", &with).await?);
        Ok(())
    }

    async fn minds_sha256(&self, name: &str, with: &Capabilities) -> Result<bool, Failure> {
        let object = self.object(name);
        let bytes = Bytes::from_static(b"sum");
        let wrong = Digests { checksum: [1; 32], ..Digests::of(&bytes) };
        let kept = Kept { content_type: "text/plain".to_owned(), ..Kept::default() };
        let refused = self
            .remote
            .put(with, &object, (bytes.clone(), wrong), &kept, &Guard::None)
            .await
            .is_err();
        let nothing = self.remote.head(&object).await?.is_none();
        let right = (bytes.clone(), Digests::of(&bytes));
        let taken = self.remote.put(with, &object, right, &kept, &Guard::None).await.is_ok();
        Ok(refused && nothing && taken)
    }

    async fn minds_part_sha256(&self, name: &str, with: &Capabilities) -> Result<bool, Failure> {
        let object = self.object(name);
        let bytes = Bytes::from_static(b"sum");
        let wrong = Digests { checksum: [1; 32], ..Digests::of(&bytes) };
        let kept = Kept { content_type: "text/plain".to_owned(), ..Kept::default() };
        let Ok(upload) = self.remote.begin_parts(with, &object, &kept, false).await else {
            return Ok(false);
        };
        let place = (object.as_str(), upload.as_str(), 1);
        let refused =
            self.remote.put_part(with, place, bytes.clone(), &wrong, false).await.is_err();
        let right = Digests::of(&bytes);
        let taken = match self.remote.put_part(with, place, bytes, &right, false).await {
            Ok(part) => {
                let to = (object.as_str(), upload.as_str());
                self.remote.complete(with, to, &[part], &Guard::None).await.is_ok()
            }
            Err(_) => false,
        };
        if !taken {
            let _ = self.remote.abort(&object, &upload).await;
        }
        Ok(refused && taken)
    }
}
