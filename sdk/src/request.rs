//! A request, as a plugin sees it.

use crate::blob_answer::{Compared, names};
use crate::{Body, Failure, Principal, json, media};

/// An HTTP method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the head only. Reply with the length that GET would have.
    Head,
    /// Creates something, or starts an action.
    Post,
    /// Stores under a name.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
    /// Asks which methods are possible.
    Options,
    /// Any other method, as sent.
    Other(String),
}

impl Method {
    /// The method with this name, which is in upper case.
    pub fn new(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Method {
    /// The name in upper case.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other(name) => name,
        }
    }
}

/// A request below the plugin's mount.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL of the mount for this client, without a trailing slash: `https://host:8000/lxd`. Empty if it
    /// is unknown; [`url`](Self::url) then returns relative references. Unless the operator has set it, its
    /// host is what the client claims.
    pub base: String,
    /// Path and query as the client sent them, from the root of the server.
    pub target: String,
    /// The IP address of the client, or of the proxy in front; `None` for a Unix socket.
    pub address: Option<String>,
    /// The identifier of the request in logs.
    pub id: String,
    /// The segments of the path below the mount, split at `/` and then percent-decoded. They may be empty or
    /// dots, or contain an encoded slash; stores refuse such keys.
    pub segments: Vec<String>,
    /// Whether the path ended with `/`.
    pub trailing_slash: bool,
    /// The parameters of the query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Headers, with names in lower case and without the credentials that the host has checked.
    pub headers: Vec<(String, String)>,
    /// The authenticated user; `None` if the mount admits everybody.
    pub principal: Option<Principal>,
    /// The body. Pass it on instead of reading it, if possible.
    pub body: Body,
}

impl Request {
    /// The segments, for matching with slice patterns.
    pub fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The first header of this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Whether the client says by `If-None-Match` that it has the version with this tag, which is given without quotes: then
    /// reply with 304. [`BlobAnswer`](crate::BlobAnswer) does it for blobs.
    pub fn has_version(&self, etag: &str) -> bool {
        self.header("if-none-match").is_some_and(|tags| names(tags, etag, Compared::Weakly))
    }

    /// The first parameter of this name in the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The query as a type of your own, by the names of its fields. Unknown parameters are ignored unless the
    /// type denies them. Fails with [`Failure::Invalid`], which names the wrong parameter.
    pub fn query_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        let pairs = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(pairs);
        serde_urlencoded::from_str(&encoded.finish())
            .map_err(|error| Failure::Invalid(format!("the query: {error}")))
    }

    /// The whole body as JSON, at most `most` bytes. Fails with [`Failure::TooLarge`], with 415 if the body
    /// has another media type, and with [`Failure::Invalid`], which names the wrong member, the line and the
    /// column. A body without a media type is accepted. What `curl -d` sends by itself is a form, and is
    /// refused. The body is copied into the plugin, so keep `most` small.
    pub fn json<T: serde::de::DeserializeOwned>(&self, most: u64) -> Result<T, Failure> {
        self.require_media_type(media::JSON, media::is_json)?;
        json::parse("the body", &self.bytes(most)?)
    }

    /// The whole body as a form, as browsers and `curl -d` send it, by the names of its fields. Fails as
    /// [`json`](Self::json) does.
    ///
    /// ```
    /// # use keepgate_sdk::{Failure, Reply, Request};
    /// #[derive(serde::Deserialize)]
    /// struct Rename {
    ///     to: String,
    /// }
    ///
    /// fn rename(request: &Request) -> Result<Reply, Failure> {
    ///     let Rename { to } = request.form(4096)?;
    ///     Ok(Reply::ok().text(to))
    /// }
    /// ```
    pub fn form<T: serde::de::DeserializeOwned>(&self, most: u64) -> Result<T, Failure> {
        self.require_media_type(media::FORM, |media_type| media_type == media::FORM)?;
        serde_urlencoded::from_bytes(&self.bytes(most)?)
            .map_err(|error| Failure::Invalid(format!("the form: {error}")))
    }

    /// The whole body. Fails with [`Failure::TooLarge`] if it has more than `most` bytes.
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>, Failure> {
        self.body.bytes(most)
    }

    /// Checks that the body has at most `most` bytes, for requests whose body is ignored. Fails with
    /// [`Failure::TooLarge`] otherwise. Reads the body only if its length was not announced.
    pub fn ignore_body(&self, most: u64) -> Result<(), Failure> {
        match self.body.length() {
            Some(length) if length <= most => Ok(()),
            Some(_) => Err(Failure::TooLarge(most)),
            None => self.body.discard(most),
        }
    }

    /// Whether the client asks not to wait for the result: `Prefer: respond-async` (RFC 7240). See
    /// [`job_api`](crate::job_api).
    pub fn prefers_async(&self) -> bool {
        let preferences = self.headers.iter().filter(|(name, _)| name == "prefer");
        preferences
            .flat_map(|(_, value)| value.split(','))
            .filter_map(|preference| preference.split(';').next())
            .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
    }

    /// The media type of the body, in lower case and without parameters; `None` if the client sent none.
    pub fn media_type(&self) -> Option<String> {
        self.header("content-type").map(media::essence).filter(|text| !text.is_empty())
    }

    fn require_media_type(&self, expected: &str, is: impl Fn(&str) -> bool) -> Result<(), Failure> {
        match self.media_type() {
            Some(other) if !is(&other) => {
                Err(Failure::refused(415, "", format!("the body is {other:?}; send {expected}")))
            }
            _ => Ok(()),
        }
    }

    /// The URL of a path below the mount for this client, for `Location`, `Link` and bodies. The segments are
    /// percent-encoded; an empty last one gives a trailing slash. If [`base`](Self::base) is empty, the
    /// result is relative to the path of this request, which is only right in a header.
    ///
    /// ```
    /// # use keepgate_sdk::{Failure, Reply, Request};
    /// fn accepted(request: &Request, job: &str) -> Reply {
    ///     Reply::new(202).header("location", request.url(&["jobs", job]))
    /// }
    /// ```
    pub fn url(&self, segments: &[&str]) -> String {
        let below = segments.iter().map(|segment| encoded(segment)).collect::<Vec<_>>().join("/");
        if !self.base.is_empty() {
            return format!("{}/{below}", self.base);
        }
        // References begin after the last slash of the request's path.
        let up = self.segments.len().checked_sub(usize::from(!self.trailing_slash));
        match up {
            Some(0) => format!("./{below}"),
            Some(up) => format!("{}{below}", "../".repeat(up)),
            // The mount's own path without a trailing slash: its name comes again.
            None => {
                let own = self.target.split('?').next().and_then(|path| path.rsplit('/').next());
                format!("./{}/{below}", own.unwrap_or_default())
            }
        }
    }

    /// The one of these media types that the client prefers, the first one if it has no preference; `None` if
    /// it accepts none of them (406).
    pub fn accepts<'a>(&self, offered: &[&'a str]) -> Option<&'a str> {
        crate::negotiate::best(self.header("accept"), offered)
    }

    /// The name of the authenticated user; empty if the mount admits everybody.
    pub fn user(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.name)
    }
}

/// A segment, encoded for a path (RFC 3986).
fn encoded(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, TestReply};
    use crate::{Description, Plugin, Reply};

    struct Reader;

    #[derive(serde::Deserialize)]
    struct Wish {
        name: String,
    }

    impl Plugin for Reader {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("reader", "1")
        }

        fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let wish: Wish = match request.path().as_slice() {
                ["json"] => request.json(64)?,
                ["form"] => request.form(64)?,
                _ => return Ok(Reply::ok().text(request.url(&["x y", "é/", ""]))),
            };
            Ok(Reply::ok().text(wish.name))
        }
    }

    fn post(path: &str, media_type: &str, body: &[u8]) -> TestReply {
        let request = Host::new().post(path, body);
        let request = match media_type {
            "" => request,
            media_type => request.header("content-type", media_type),
        };
        request.send::<Reader>()
    }

    #[test]
    fn a_body_of_another_media_type_is_refused() {
        let (json, form) = (br#"{"name":"a b"}"#, b"name=a+b");
        for (path, media_type, body, right) in [
            ("/json", "application/json", &json[..], true),
            ("/json", "Application/JSON; charset=utf-8", json, true),
            ("/json", "application/vnd.x+json", json, true),
            ("/json", "", json, true),
            ("/json", "text/plain", json, false),
            ("/json", "application/x-www-form-urlencoded", json, false),
            ("/json", "application/jsonl", json, false),
            ("/form", "application/x-www-form-urlencoded", form, true),
            ("/form", "application/x-www-form-urlencoded;charset=UTF-8", form, true),
            ("/form", "", form, true),
            ("/form", "application/json", form, false),
            ("/form", "multipart/form-data; boundary=x", form, false),
        ] {
            let reply = post(path, media_type, body);
            if right {
                let said = (reply.status, reply.text());
                assert_eq!(said, (200, "a b".to_owned()), "{path} {media_type}");
            } else {
                assert_ne!(reply.status, 200, "{path} {media_type}");
                assert!(reply.text().contains("; send application/"), "{}", reply.text());
            }
        }
        let missing = post("/form", "", b"other=1");
        assert_eq!(missing.status, 400);
        assert!(missing.text().contains("the form: missing field `name`"), "{}", missing.text());
        assert_eq!(post("/form", "", &[b'x'; 65]).status, 413);
    }

    #[test]
    fn urls_are_absolute_if_the_base_is_known_and_relative_otherwise() {
        let host = Host::new();
        let told = |base: &str, target: &str| host.get(target).base(base).send::<Reader>().text();
        assert_eq!(told("https://h/apps", "/a/b"), "https://h/apps/x%20y/%C3%A9%2F/");
        for (target, relative) in [
            ("/", "./"),
            ("/a", "./"),
            ("/a/", "../"),
            ("/a/b?c=/d", "../"),
            ("/a/b/c", "../../"),
            ("/a/b/c/", "../../../"),
        ] {
            assert_eq!(told("", target), format!("{relative}x%20y/%C3%A9%2F/"), "{target}");
        }
        // The mount's own path without a trailing slash.
        let top = Request {
            method: Method::Get,
            base: String::new(),
            target: "/backups/shelf?z=1".to_owned(),
            address: None,
            id: String::new(),
            segments: Vec::new(),
            trailing_slash: false,
            query: Vec::new(),
            headers: Vec::new(),
            principal: None,
            body: Body::from_bytes(b""),
        };
        assert_eq!(top.url(&["x"]), "./shelf/x");
    }
}
