//! What operators are told about a store: whether it can be used now, and what its bucket cannot guarantee.

use crate::options::{OnDelete, S3Options};
use crate::probe::{Capabilities, IfMatch};

/// A store as its process sees it at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3State {
    /// Whether calls are carried out, as far as the last ones tell.
    pub available: bool,
    /// Why not, for operators.
    pub reason: Option<String>,
    /// What the bucket can do; none before it was opened.
    pub capabilities: Option<Capabilities>,
    /// Bucket and endpoint.
    pub place: String,
    /// What this bucket cannot guarantee, and what follows from it; one sentence each.
    pub limitations: Vec<String>,
}

/// What a bucket cannot guarantee, and what follows, in an operator's words.
pub(crate) fn limitations(found: &Capabilities, options: &S3Options) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |holds: bool, text: &str| {
        if holds {
            all.push(text.to_owned());
        }
    };
    if options.read_only {
        say(true, "the store is read-only, so nothing was tried that writes");
        return all;
    }
    let coordinated = options.coordinator.is_some();
    say(
        !found.can_be_shared() && !coordinated,
        "conditional writes are not atomic, so this gateway must be the only program that writes to the store",
    );
    say(
        !found.can_be_shared() && coordinated,
        "conditional writes are not atomic, so all programs that write to the store must be gateways with the same \
         `coordinated_by`",
    );
    say(
        found.can_be_shared() && !found.complete_if_absent && !options.keeps_writers_apart(),
        "blobs in parts are completed without a condition, so each new key is claimed by a small object first: three \
         more requests for each new blob, and after a crash up to 15 minutes until its key can be written again",
    );
    say(
        found.can_be_shared() && !found.delete_if_match,
        "blobs are removed without a condition, so a blob that another gateway replaces at the very moment in which \
         this one removes it is removed too",
    );
    say(
        found.if_match == IfMatch::Ignored && found.put_if_absent,
        "blobs are replaced without a condition, so of two gateways that replace a blob at the same time the last one \
         wins unnoticed",
    );
    say(
        !found.sha256,
        "the server does not check SHA-256, so what it receives is protected by MD5 and by signatures",
    );
    say(
        found.sha256 && !found.part_sha256,
        "the server does not check the SHA-256 of parts, so parts are protected by MD5 and by signatures",
    );
    say(
        !found.tags,
        "the server keeps no tags, so tags are kept with the metadata, and long ones are refused",
    );
    say(
        found.tags && !found.part_tags,
        "the server loses tags of blobs in parts, so their tags are kept with the metadata, and long ones are refused",
    );
    say(
        found.versions && options.delete == OnDelete::Latest,
        "the bucket keeps versions, so blobs that are removed or replaced take space until a lifecycle rule of the \
         bucket removes their older versions",
    );
    say(
        !found.absent_after_removal,
        "to the server a removed blob is still there, so storing it again takes a claim and about six more requests",
    );
    all
}
