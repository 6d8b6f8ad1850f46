//! Objects in parts: begun, sent or copied part by part, and completed or aborted.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Digests, Failure, Guard, Kept, Remote, Retention, checksums, quoted, signing, unquoted,
};
use crate::probe::Capabilities;

/// What need not be encoded in the name of a copy's source.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// A part that the server has.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) number: i32,
    pub(crate) etag: String,
    pub(crate) sha256: Option<String>,
}

impl Remote {
    /// Begins an object in parts, and returns the upload's id.
    pub(crate) async fn begin_parts(
        &self,
        capabilities: &Capabilities,
        object: &str,
        kept: &Kept,
        copied: bool,
    ) -> Result<String, Failure> {
        let begin = self.client.create_multipart_upload().bucket(&self.options.bucket).key(object);
        // Parts that are copied have no checksums of their own on some servers.
        let checked = capabilities.sha256 && capabilities.part_sha256 && !copied;
        let begin = begin
            .set_checksum_algorithm(checked.then_some(ChecksumAlgorithm::Sha256))
            .content_type(&kept.content_type)
            .set_metadata(Some(kept.metadata.clone()))
            .set_tagging(kept.tagging.clone())
            .set_object_lock_mode(kept.retention.as_ref().map(Retention::mode))
            .set_object_lock_retain_until_date(kept.retention.as_ref().map(Retention::until));
        let name = ("CreateMultipartUpload", "cannot begin an upload");
        let begun = self.ask(name, Box::pin(begin.send())).await?;
        begun.upload_id.ok_or_else(|| {
            Failure::Unavailable(format!("cannot begin an upload: {}: no id came", self.place))
        })
    }

    /// Sends a part.
    pub(crate) async fn put_part(
        &self,
        capabilities: &Capabilities,
        (object, upload, number): (&str, &str, i32),
        bytes: Bytes,
        digests: &Digests,
        copied: bool,
    ) -> Result<Part, Failure> {
        let (sha256, md5) = match capabilities.part_sha256 && !copied {
            true => checksums(capabilities, digests),
            false => (None, digests.md5.map(|md5| BASE64_STANDARD.encode(md5))),
        };
        let signed = signing::SignedBody::of(digests, capabilities.unsigned && sha256.is_some());
        let part = self.client.upload_part().bucket(&self.options.bucket).key(object);
        let patience = self.patience(bytes.len());
        let part = part
            .upload_id(upload)
            .part_number(number)
            .set_checksum_sha256(sha256.clone())
            .set_content_md5(md5)
            .body(ByteStream::from(bytes));
        let part = part.customize().config_override(patience);
        let part = part.interceptor(signed);
        let stored = self.ask(("UploadPart", "cannot store a part"), Box::pin(part.send())).await?;
        Ok(Part { number, etag: unquoted(stored.e_tag()), sha256 })
    }

    /// Copies bytes of another object into a part: those from the first offset up to the second one, which counts.
    pub(crate) async fn copy_part(
        &self,
        (object, upload, number): (&str, &str, i32),
        source: &str,
        etag: &str,
        (first, last): (u64, u64),
    ) -> Result<Part, Failure> {
        let bucket = &self.options.bucket;
        let copy = self.client.upload_part_copy().bucket(bucket).key(object);
        let copy = copy
            .upload_id(upload)
            .part_number(number)
            .copy_source(format!("{bucket}/{}", utf8_percent_encode(source, PATH)))
            .copy_source_if_match(quoted(etag))
            .copy_source_range(format!("bytes={first}-{last}"));
        let copied =
            self.ask(("UploadPartCopy", "cannot copy a part"), Box::pin(copy.send())).await?;
        let result = copied.copy_part_result();
        Ok(Part { number, etag: unquoted(result.and_then(|result| result.e_tag())), sha256: None })
    }

    /// Makes an object of its parts.
    pub(crate) async fn complete(
        &self,
        capabilities: &Capabilities,
        (object, upload): (&str, &str),
        parts: &[Part],
        guard: &Guard,
    ) -> Result<(), Failure> {
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(quoted(&part.etag))
                .set_checksum_sha256(part.sha256.clone())
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.options.bucket);
        let complete = complete.key(object).upload_id(upload).multipart_upload(parts);
        let complete = match guard {
            Guard::None => complete,
            Guard::Absent => complete.if_none_match("*"),
            Guard::Is(etag) => complete.if_match(capabilities.if_match.value(etag)),
        };
        let name = ("CompleteMultipartUpload", "cannot complete an upload");
        self.ask(name, Box::pin(complete.send())).await.map(|_| ())
    }

    /// Forgets an upload with its parts. It is no error if there is none.
    pub(crate) async fn abort(&self, object: &str, upload: &str) -> Result<(), Failure> {
        let abort = self.client.abort_multipart_upload().bucket(&self.options.bucket);
        let name = ("AbortMultipartUpload", "cannot abort an upload");
        match self.ask(name, Box::pin(abort.key(object).upload_id(upload).send())).await {
            Ok(_) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
