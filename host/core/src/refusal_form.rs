//! The form in which a surface reports failures, as its plugin declares it: for what the host refuses itself at a
//! mount, where no plugin is asked (401, 503, 504) or none has an answer.
//!
//! The declaration is a JSON document, `refusals.json` beside the plugin's sources; `keepgate plugin build` makes a
//! custom section of it. A declaration with a mistake is refused with the plugin, so filling in a form cannot fail.
//! Status, code and message are chosen in `failure`, not here.

mod content_type;
mod template;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use content_type::Syntax;
use template::Node;

/// The longest declaration, in bytes.
const MAX_LENGTH: usize = 8192;
/// The longest text in `reasons`, in bytes.
const MAX_REASON: usize = 200;

/// How a surface reports failures.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusalForm {
    content_type: String,
    syntax: Syntax,
    body: Node,
    /// Texts that replace the reason phrase of a status.
    reasons: BTreeMap<u16, String>,
}

/// What a form is filled in with.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// `{status}`: HTTP status.
    pub status: u16,
    /// `{reason}`, unless the form has a text for the status: the reason phrase of HTTP.
    pub reason: &'a str,
    /// `{code}`: one word for programs.
    pub code: &'a str,
    /// `{message}`: for people. Never empty.
    pub message: &'a str,
    /// `{request}`: the id of the request in the gateway's log.
    pub request: &'a str,
}

/// Why a declaration is refused. Each says where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalFormError {
    /// It is too long.
    #[error("it has {0} bytes; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("it is not UTF-8, from byte {0} on")]
    NotUtf8(usize),
    /// JSON, but no object.
    #[error("expected an object with `content_type` and `body`")]
    NotObject,
    /// It is not JSON, has unknown keys, lacks some, or has an unknown placeholder.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Not a content type.
    #[error("`content_type`: expected one such as \"application/json\", found {0:?}")]
    ContentType(String),
    /// A content type into which nothing can be inserted safely.
    #[error(
        "`content_type`: expected JSON, XML, \"text/html\" or \"text/plain\", in UTF-8, found {0:?}: values are \
         escaped as the type requires"
    )]
    Syntax(String),
    /// JSON in quotes.
    #[error(
        "`body`: expected an object or a list, because `content_type` is JSON; write the JSON itself, not a text \
         that contains it"
    )]
    NotJson,
    /// JSON as another type.
    #[error("`body`: expected a text, because `content_type` is {0:?} and not JSON")]
    NotText(String),
    /// Not a status of a failure.
    #[error("`reasons`: expected statuses from 400 to 599, found {0:?}")]
    Status(String),
    /// A text that is empty, too long or has line breaks.
    #[error("`reasons`: the text for {0} must be one line of 1 to {MAX_REASON} bytes")]
    Reason(u16),
}

/// The document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    content_type: String,
    body: Node,
    #[serde(default)]
    reasons: BTreeMap<String, String>,
}

impl RefusalForm {
    /// The custom section of a component that holds the declaration.
    pub const SECTION: &str = "keepgate:refusals";
    /// The file that becomes this section.
    pub const FILE: &str = "refusals.json";

    /// Parses and checks a declaration.
    pub fn parse(declaration: &[u8]) -> Result<Self, RefusalFormError> {
        if declaration.len() > MAX_LENGTH {
            return Err(RefusalFormError::TooLong(declaration.len()));
        }
        let text = std::str::from_utf8(declaration)
            .map_err(|error| RefusalFormError::NotUtf8(error.valid_up_to()))?;
        // Serde would take a list of the values, too.
        if text.trim_start().starts_with('[') {
            return Err(RefusalFormError::NotObject);
        }
        let Declaration { content_type, body, reasons } = serde_json::from_str(text)?;
        let syntax = Syntax::of(&content_type)?;
        match (syntax, &body) {
            (Syntax::Json, Node::Object(_) | Node::List(_)) => {}
            (Syntax::Json, _) => return Err(RefusalFormError::NotJson),
            (_, Node::Text(_)) => {}
            _ => return Err(RefusalFormError::NotText(content_type)),
        }
        let reasons = reasons.into_iter().map(|(status, text)| {
            let number = status.parse().ok().filter(|status| (400..=599).contains(status));
            let number = number.ok_or(RefusalFormError::Status(status))?;
            let fits = (1..=MAX_REASON).contains(&text.len()) && !text.contains(char::is_control);
            fits.then_some((number, text)).ok_or(RefusalFormError::Reason(number))
        });
        let reasons = reasons.collect::<Result<_, _>>()?;
        Ok(Self { content_type, syntax, body, reasons })
    }

    /// The value of `Content-Type`, which is valid as one.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The body of a refusal.
    pub fn fill(&self, refused: &Refused<'_>) -> String {
        let message = one_line(refused.message);
        let reason = self.reasons.get(&refused.status).map_or(refused.reason, String::as_str);
        let values = Refused { reason, message: &message, ..*refused };
        match (self.syntax, &self.body) {
            (Syntax::Markup, Node::Text(text)) => text.fill(&values, escape_markup),
            (_, Node::Text(text)) => text.fill(&values, as_it_is),
            (_, body) => body.to_json(&values),
        }
    }
}

/// A text without control characters: they would break lines, and XML has no form for most.
fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, " ").into(),
        false => text.into(),
    }
}

/// A text in a type without special characters, or before something else escapes it.
fn as_it_is(text: &str) -> Cow<'_, str> {
    text.into()
}

/// A text as it is written in XML and HTML, between tags and in quoted attributes.
fn escape_markup(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests;
