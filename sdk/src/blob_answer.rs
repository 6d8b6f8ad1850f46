//! Replies to GET and HEAD with a blob: ranges, conditions and their headers, in the order of RFC 9110,
//! 13.2.2. Entity tags and media types differ between surfaces, so the caller sets them.

use std::time::{Duration, SystemTime};

use crate::range::{Range, content_range};
use crate::{Body, Download, Failure, Info, Method, Part, Reply, Request, Store};

/// A blob that a request asks for. It is opened once, so headers and content belong to the same blob even if
/// it is replaced in the meantime.
///
/// ```
/// use keepgate_sdk::{BlobAnswer, Failure, Reply, Request, Store};
///
/// fn get(store: &Store, request: &Request, name: &str) -> Result<Reply, Failure> {
///     BlobAnswer::of(store, name)?.content_type("application/gzip").to(request)
/// }
/// ```
#[derive(Debug)]
pub struct BlobAnswer<'a> {
    store: &'a Store,
    info: Info,
    /// The whole blob. What is not sent is not read.
    data: Body,
    /// Without quotes, and never weak.
    etag: String,
    /// Set if it differs from the stored one.
    content_type: Option<String>,
}

/// What a request gets.
enum Wanted {
    Bytes(Part),
    /// The client has this blob already.
    NotModified,
    NoSuchRange,
}

impl<'a> BlobAnswer<'a> {
    /// Opens a blob. Fails with [`Failure::NotFound`] if it does not exist.
    pub fn of(store: &'a Store, key: &str) -> Result<Self, Failure> {
        let Download { info, data, .. } = store.get(key, Part::Whole)?;
        let etag = info.etag.clone();
        Ok(Self { store, info, data, etag, content_type: None })
    }

    /// What is known about the blob.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Sets another entity tag than the store's, without quotes, such as a hash of the content, which is the
    /// same on every gateway.
    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        etag.clone_into(&mut self.etag);
        self
    }

    /// Sets another media type than the stored one.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// The reply to a GET or HEAD: 200, 206, or 304 if the client has this blob already. Fails with
    /// [`Failure::PreconditionFailed`] if a condition of the request does not hold, with [`Failure::OutOfRange`] if
    /// no byte of the range is inside the blob, and as the store does.
    ///
    /// A request for several ranges gets the whole blob: a server may do that, and hardly any client asks.
    pub fn to(self, request: &Request) -> Result<Reply, Failure> {
        let is_head = request.method == Method::Head;
        let part = match self.wanted(request, is_head)? {
            Wanted::Bytes(part) => part,
            Wanted::NotModified => return Ok(self.head(304)),
            Wanted::NoSuchRange => return Err(Failure::OutOfRange(self.info.size)),
        };
        if is_head {
            return Ok(self.described(200).header("content-length", self.info.size));
        }
        if matches!(part, Part::Whole) {
            return Ok(self.described(200).body(self.data));
        }
        let found = match self.store.get(&self.info.key, part) {
            Ok(found) if found.info.etag == self.info.etag => found,
            Ok(_) | Err(Failure::NotFound) => return self.replaced(request),
            Err(Failure::OutOfRange(size)) if size != self.info.size => {
                return self.replaced(request);
            }
            Err(failure) => return Err(failure),
        };
        let range = content_range(&found);
        Ok(self.described(206).header("content-range", range).body(found.data))
    }

    /// Handles a blob that was replaced after it was opened. The client did not ask for a range of the new
    /// one, so it gets all of it, as if `If-Range` did not match.
    fn replaced(self, request: &Request) -> Result<Reply, Failure> {
        let meant = ["if-match", "if-unmodified-since"];
        if meant.iter().any(|name| request.header(name).is_some()) {
            return Err(Failure::PreconditionFailed);
        }
        let now = Self { content_type: self.content_type, ..Self::of(self.store, &self.info.key)? };
        Ok(now.described(200).body(now.data))
    }

    fn head(&self, status: u16) -> Reply {
        Reply::new(status)
            .header("accept-ranges", "bytes")
            .header("etag", format!("\"{}\"", self.etag))
            .header("last-modified", httpdate::fmt_http_date(self.modified()))
    }

    fn described(&self, status: u16) -> Reply {
        let reply = self.head(status);
        match self.content_type.as_ref().or(self.info.content_type.as_ref()) {
            Some(media_type) => reply.header("content-type", media_type),
            None => reply.header("content-type", "application/octet-stream"),
        }
    }

    /// Rounded down to seconds, as dates in HTTP are.
    fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.info.modified / 1_000_000_000)
    }

    fn wanted(&self, request: &Request, is_head: bool) -> Result<Wanted, Failure> {
        let modified = self.modified();
        let date =
            |name| request.header(name).and_then(|text| httpdate::parse_http_date(text).ok());
        match (request.header("if-match"), date("if-unmodified-since")) {
            (Some(tags), _) if !names(tags, &self.etag, Compared::Strongly) => {
                return Err(Failure::PreconditionFailed);
            }
            (None, Some(date)) if modified > date => return Err(Failure::PreconditionFailed),
            _ => {}
        }
        match (request.header("if-none-match"), date("if-modified-since")) {
            (Some(_), _) if request.has_version(&self.etag) => return Ok(Wanted::NotModified),
            (None, Some(date)) if modified <= date => return Ok(Wanted::NotModified),
            _ => {}
        }
        let is_this = |validator: &str| {
            let validator = validator.trim();
            validator == format!("\"{}\"", self.etag)
                || httpdate::parse_http_date(validator).is_ok_and(|date| date == modified)
        };
        if is_head || !request.header("if-range").is_none_or(is_this) {
            return Ok(Wanted::Bytes(Part::Whole));
        }
        // A server ignores a unit that it does not know.
        let range = request.header("range").filter(|range| range.trim().starts_with("bytes"));
        Ok(match Range::parse(range) {
            Range::Whole => Wanted::Bytes(Part::Whole),
            Range::Part(part) => Wanted::Bytes(part),
            Range::Malformed => Wanted::NoSuchRange,
        })
    }
}

/// Whether a list of tags has this one, which is given without quotes, or is `*`.
pub(crate) fn names(tags: &str, etag: &str, compared: Compared) -> bool {
    tags.split(',').map(str::trim).any(|tag| {
        let tag = match compared {
            Compared::Strongly => tag,
            Compared::Weakly => tag.strip_prefix("W/").unwrap_or(tag),
        };
        tag == "*" || tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(etag)
    })
}

/// Whether a weak tag is considered equal.
#[derive(Clone, Copy)]
pub(crate) enum Compared {
    Strongly,
    Weakly,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, RequestBuilder, TestReply};
    use crate::{Description, Plugin, PutOptions};

    struct Shelf;

    impl Plugin for Shelf {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("shelf", "1").store("main")
        }

        fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let store = Store::open("main")?;
            BlobAnswer::of(&store, &request.segments.join("/"))?.etag("tag").to(&request)
        }
    }

    /// Like [`Shelf`], but its blob is replaced before the reply is made.
    struct Busy;

    impl Plugin for Busy {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("busy", "1").store("main")
        }

        fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let store = Store::open("main")?;
            let answer = BlobAnswer::of(&store, "a")?.etag("old").content_type("text/x");
            match request.query("by") {
                Some(bytes) => {
                    let options = PutOptions::replace();
                    store.put("a", Body::from_bytes(bytes.as_bytes()), &options)?;
                }
                None => drop(store.delete("a")?),
            }
            answer.to(&request)
        }
    }

    fn ask(method: &str, headers: &[(&str, &str)]) -> TestReply {
        let host = Host::new();
        host.set_now(784_111_777_500_000_000);
        host.put("a", b"0123456789");
        let request = host.request(method, "/a");
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value))
            .send::<Shelf>()
    }

    #[test]
    fn conditions_come_before_ranges() {
        let then = "Sun, 06 Nov 1994 08:49:37 GMT";
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (headers, status, body) in [
            (&[][..], 200, "0123456789"),
            (&[("range", "bytes=2-4")], 206, "234"),
            (&[("range", "bytes=-3")], 206, "789"),
            (&[("range", "bytes=8-100")], 206, "89"),
            (&[("range", "bytes=0-1,4-5")], 200, "0123456789"),
            (&[("range", "lines=1-2")], 200, "0123456789"),
            (&[("range", "bytes=x")], 416, ""),
            (&[("range", "bytes=10-")], 416, ""),
            (&[("if-none-match", "\"tag\"")], 304, ""),
            (&[("if-none-match", "W/\"tag\", \"x\"")], 304, ""),
            (&[("if-none-match", "*")], 304, ""),
            (&[("if-none-match", "\"other\"")], 200, "0123456789"),
            (&[("if-none-match", "\"other\""), ("if-modified-since", then)], 200, "0123456789"),
            (&[("if-modified-since", then)], 304, ""),
            (&[("if-modified-since", before)], 200, "0123456789"),
            (&[("if-range", before), ("range", "bytes=2-4")], 200, "0123456789"),
            (&[("if-modified-since", "yesterday")], 200, "0123456789"),
            (&[("if-match", "\"tag\"")], 200, "0123456789"),
            (&[("if-match", "W/\"tag\"")], 412, ""),
            (&[("if-match", "\"other\"")], 412, ""),
            (&[("if-unmodified-since", then)], 200, "0123456789"),
            (&[("if-unmodified-since", before)], 412, ""),
            (&[("range", "bytes=2-4"), ("if-range", "\"tag\"")], 206, "234"),
            (&[("range", "bytes=2-4"), ("if-range", then)], 206, "234"),
            (&[("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "0123456789"),
            (&[("range", "bytes=2-4"), ("if-none-match", "\"tag\"")], 304, ""),
        ] {
            let reply = ask("GET", headers);
            assert_eq!(reply.status, status, "{headers:?}");
            if matches!(status, 200 | 206) {
                assert_eq!(reply.text(), body, "{headers:?}");
            }
            if status < 400 {
                assert_eq!(reply.header("etag"), Some("\"tag\""));
                assert_eq!(reply.header("last-modified"), Some(then));
            }
        }
        let reply = ask("GET", &[("range", "bytes=2-4")]);
        assert_eq!(reply.header("content-range"), Some("bytes 2-4/10"));
    }

    #[test]
    fn head_has_the_length_and_no_range() {
        let reply = ask("HEAD", &[("range", "bytes=2-4")]);
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("10")));
        assert_eq!(ask("HEAD", &[("if-none-match", "*")]).status, 304);
        assert_eq!(Host::new().request("HEAD", "/none").send::<Shelf>().status, 404);
    }

    #[test]
    fn headers_and_content_belong_to_the_same_blob() {
        let host = Host::new();
        let get = |target: &str, headers: &[(&str, &str)]| {
            host.put("a", b"0123456789");
            let request = host.get(target);
            let add =
                |request: RequestBuilder, (name, value): &(&str, &str)| request.header(name, value);
            headers.iter().fold(request, add).send::<Busy>()
        };
        let whole = get("/?by=other", &[]);
        assert_eq!((whole.status, &*whole.text()), (200, "0123456789"));
        assert_eq!(whole.header("etag"), Some("\"old\""));
        // The range would be of another blob than the tag, so the client gets all of the new one, with its
        // tag.
        for headers in
            [&[("range", "bytes=2-4")][..], &[("range", "bytes=-1"), ("if-range", "\"old\"")]]
        {
            for by in ["other", "0123456789", "x"] {
                let range = get(&format!("/?by={by}"), headers);
                assert_eq!((range.status, &*range.text()), (200, by), "{headers:?}");
                assert_ne!(range.header("etag"), Some("\"old\""));
                assert_eq!(range.header("content-type"), Some("text/x"));
                assert_eq!(range.header("content-range"), None);
            }
        }
        let meant = [("range", "bytes=2-4"), ("if-match", "\"old\"")];
        assert_eq!(get("/?by=other", &meant).status, 412);
        assert_eq!(get("/", &[("range", "bytes=2-4")]).status, 404);
    }
}
