//! Why an etag never comes back.
//!
//! A store's etag is the server's etag with the second of the change, because listings have nothing better. The
//! server's comes from the bytes, so the same bytes, stored twice under one key within one second, would have the
//! same etag. Such a change waits until the second is over. It is rare: somebody has to write what was there a moment
//! ago.
//!
//! What this process changed is known, and of another gateway's changes what is still there. One case is left: another
//! gateway removes a blob, and this one stores the same bytes again, all within one second. The etag then names a
//! blob with the very same bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::remote::{Object, time};

/// A second, and what clocks may differ in.
const SECOND: Duration = Duration::from_millis(1100);
/// Changes after which the old ones are forgotten.
const MANY: usize = 1024;

/// The changes of the last second.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// By object, their etags.
    recent: Mutex<HashMap<String, Vec<(String, Instant)>>>,
}

impl Repeats {
    /// Remembers that an object with this etag was there.
    pub(crate) fn note(&self, object: &str, etag: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= MANY {
            recent.retain(|_, noted| noted.iter().any(|(_, seen)| seen.elapsed() < SECOND));
        }
        let noted = recent.entry(object.to_owned()).or_default();
        noted.retain(|(other, seen)| other != etag && seen.elapsed() < SECOND);
        noted.push((etag.to_owned(), Instant::now()));
    }

    /// Whether an object was changed a moment ago, so that the etag of what is stored next matters.
    pub(crate) fn has(&self, object: &str) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut noted = recent.get(object).into_iter().flatten();
        noted.any(|(_, seen)| seen.elapsed() < SECOND)
    }

    /// Waits until bytes with this etag can be stored. One that is not known may be any.
    pub(crate) async fn wait(&self, object: &str, etag: Option<&str>, there: Option<&Object>) {
        let same = |other: &str| etag.is_none_or(|etag| etag == other);
        let noted = {
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let noted = recent.get(object).into_iter().flatten();
            noted.filter(|(noted, _)| same(noted)).map(|(_, seen)| seen.elapsed()).min()
        };
        let left = noted.and_then(|elapsed| SECOND.checked_sub(elapsed));
        let is_fresh = there.is_some_and(|there| {
            let age = SystemTime::now().duration_since(time(there.seconds));
            same(&there.etag) && age.is_ok_and(|age| age < 2 * SECOND)
        });
        if let Some(left) = left.or(is_fresh.then_some(SECOND)) {
            tokio::time::sleep(left).await;
        }
    }
}

/// The etag that the server will give to bytes in one request, unless it encrypts them.
pub(crate) fn etag_of(md5: [u8; 16]) -> String {
    hex::encode(md5)
}

/// The etag that the server will give to an object in parts, if theirs come from their bytes.
pub(crate) fn etag_of_parts<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    use md5::Digest as _;

    let (mut all, mut count) = (md5::Md5::new(), 0);
    for part in parts {
        all.update(hex::decode(part).ok().filter(|md5| md5.len() == 16)?);
        count += 1;
    }
    Some(format!("{}-{count}", hex::encode(all.finalize())))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_same_bytes_under_the_same_name_wait() {
        let repeats = Repeats::default();
        repeats.note("a", "1");
        for (object, etag) in [("a", "2"), ("b", "1")] {
            assert!(repeats.wait(object, Some(etag), None).now_or_never().is_some());
        }
        assert!(repeats.wait("a", Some("1"), None).now_or_never().is_none());
        repeats.note("a", "2");
        assert!(repeats.wait("a", Some("1"), None).now_or_never().is_none());
        // An etag that nobody knows may be the same.
        assert!(repeats.has("a") && repeats.wait("a", None, None).now_or_never().is_none());
        assert!(!repeats.has("b") && repeats.wait("b", None, None).now_or_never().is_some());
    }

    #[test]
    fn the_etag_of_parts_is_as_aws_computes_it() {
        let part = etag_of(crate::remote::Digests::of(b"abc").md5.unwrap());
        assert_eq!(part, "900150983cd24fb0d6963f7d28e17f72");
        let both = etag_of_parts([part.as_str(), part.as_str()].into_iter());
        assert!(both.is_some_and(|etag| etag.ends_with("-2") && etag.len() == 34));
        assert_eq!(etag_of_parts(["random"].into_iter()), None);
    }
}
