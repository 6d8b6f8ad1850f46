//! Lists of objects, page by page.

use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::{Failure, Remote, length, unquoted};

/// Objects and folders of one page, not yet in a common order.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Found>,
    /// Each ends with a slash.
    pub(crate) folders: Vec<String>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

/// An object in a list.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Empty if the server did not say.
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) seconds: i64,
}

impl Remote {
    /// Objects whose names begin with a prefix, in the order of their names' bytes, after a name, if one is given.
    /// `page` is what the page before named.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        by_folder: bool,
        after: Option<&str>,
        page: Option<&str>,
        max: i32,
    ) -> Result<Page, Failure> {
        let list = self
            .client
            .list_objects_v2()
            .bucket(&self.options.bucket)
            .prefix(prefix)
            .max_keys(max)
            // XML cannot have all characters that names can.
            .encoding_type(EncodingType::Url)
            .set_delimiter(by_folder.then(|| "/".to_owned()));
        let list = match page {
            Some(page) => list.continuation_token(page),
            None => {
                list.set_start_after(after.filter(|after| !after.is_empty()).map(str::to_owned))
            }
        };
        let listed = self.ask(("ListObjectsV2", "cannot list"), Box::pin(list.send())).await;
        let listed = listed.map_err(|failure| match failure {
            // Only the bucket could be missing.
            Failure::Missing => Failure::Refused(format!("cannot list: {}: not found", self.place)),
            failure => failure,
        })?;
        let encoded = listed.encoding_type() == Some(&EncodingType::Url);
        let name = |name: Option<&str>| decoded(name.unwrap_or_default(), encoded);
        let objects = listed.contents().iter().map(|found| Found {
            name: name(found.key()),
            etag: unquoted(found.e_tag()),
            size: length(found.size()),
            seconds: found.last_modified().map_or(0, aws_smithy_types::DateTime::secs),
        });
        let folders = listed.common_prefixes().iter().map(|folder| name(folder.prefix()));
        Ok(Page {
            objects: objects.collect(),
            folders: folders.collect(),
            next: listed
                .next_continuation_token()
                .filter(|_| listed.is_truncated() == Some(true))
                .map(str::to_owned),
        })
    }

    /// Whether there is an object whose name begins with this.
    pub(crate) async fn any_below(&self, prefix: &str) -> Result<bool, Failure> {
        let page = self.list(prefix, false, None, None, 1).await?;
        Ok(!page.objects.is_empty() || !page.folders.is_empty())
    }
}

/// A name as the server sent it: percent-encoded if it says so, with `+` for a blank.
pub(super) fn decoded(name: &str, encoded: bool) -> String {
    if !encoded {
        return name.to_owned();
    }
    percent_decode_str(&name.replace('+', " ")).decode_utf8_lossy().into_owned()
}
