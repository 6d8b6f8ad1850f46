//! A request, as a plugin sees it.

use crate::{Body, Principal};

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

    /// The name of who is asking; empty where the mount lets anybody in.
    pub fn user(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.name)
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}
