//! A request, as a plugin sees it.

use crate::{Body, Failure, Principal};

/// An HTTP method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the head only. Reply with the length that GET would have.
    Head,
    /// Creates, or makes something happen.
    Post,
    /// Stores under a name.
    Put,
    /// Changes in part.
    Patch,
    /// Removes.
    Delete,
    /// Asks what is possible.
    Options,
    /// Anything else, as sent.
    Other(String),
}

impl Method {
    /// From its name in upper case.
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
    /// Its name in upper case.
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
    /// What is asked.
    pub method: Method,
    /// Segments below the mount, percent-decoded after they were split at `/`; they may be empty,
    /// dots, or hold an encoded slash. Stores refuse keys made of such things.
    pub segments: Vec<String>,
    /// The path ended with `/`.
    pub trailing_slash: bool,
    /// Decoded pairs, in order.
    pub query: Vec<(String, String)>,
    /// Names in lower case, without the credentials that the host has checked.
    pub headers: Vec<(String, String)>,
    /// Who is asking; none where the mount lets anybody in.
    pub principal: Option<Principal>,
    /// What the client sends. Hand it on rather than read it.
    pub body: Body,
}

impl Request {
    /// The segments, for matching with slice patterns.
    pub fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The first query parameter of that name.
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The query as a type of one's own, by the names of its fields. Unknown parameters are ignored
    /// unless the type denies them; [`Failure::Invalid`] says which parameter is wrong.
    pub fn query_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        let pairs = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(pairs);
        serde_urlencoded::from_str(&encoded.finish())
            .map_err(|error| Failure::Invalid(format!("the query: {error}")))
    }

    /// The whole body as JSON, of `most` bytes at most: [`Failure::TooLarge`]; and [`Failure::Invalid`]
    /// that says where it is no JSON, or which member is wrong. It is read into the plugin, so keep
    /// `most` small.
    pub fn json<T: serde::de::DeserializeOwned>(&self, most: u64) -> Result<T, Failure> {
        let bytes = self.bytes(most)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        serde_path_to_error::deserialize(&mut json)
            .map_err(|error| Failure::Invalid(format!("the body: {error}")))
    }

    /// The whole body, of `most` bytes at most; else [`Failure::TooLarge`].
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>, Failure> {
        if self.body.length().is_some_and(|length| length > most) {
            return Err(Failure::TooLarge(most));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = self.body.read(64 * 1024)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                return Err(Failure::TooLarge(most));
            }
        }
        Ok(bytes)
    }

    /// The one of these media types that the client likes best, the first where it does not care; none
    /// where it wants none of them (406).
    pub fn accepts<'a>(&self, offered: &[&'a str]) -> Option<&'a str> {
        crate::negotiate::best(self.header("accept"), offered)
    }

    /// The name of who is asking; empty where the mount lets anybody in.
    pub fn user(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.name)
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}
