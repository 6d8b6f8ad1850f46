//! What a content type says of how values are written into a body.

use super::RefusalFormError;

/// How values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    /// XML and HTML.
    Markup,
    Plain,
}

impl Syntax {
    /// Parses a type with its parameters, such as `text/plain; charset=utf-8`.
    pub(super) fn of(content_type: &str) -> Result<Self, RefusalFormError> {
        let wrong = || RefusalFormError::ContentType(content_type.to_owned());
        let unsafe_type = || RefusalFormError::Syntax(content_type.to_owned());
        let mut parts = content_type.split(';');
        let essence = parts.next().unwrap_or_default().trim_end().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').ok_or_else(wrong)?;
        if !is_token(kind) || !is_token(subtype) {
            return Err(wrong());
        }
        for parameter in parts {
            let (name, value) = parameter.trim().split_once('=').ok_or_else(wrong)?;
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            if !is_token(name) || !is_token(value) {
                return Err(wrong());
            }
            if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return Err(unsafe_type());
            }
        }
        match (kind, subtype) {
            (_, "json") => Ok(Self::Json),
            (_, subtype) if subtype.ends_with("+json") => Ok(Self::Json),
            (_, "xml") | ("text", "html") => Ok(Self::Markup),
            (_, subtype) if subtype.ends_with("+xml") => Ok(Self::Markup),
            ("text", "plain") => Ok(Self::Plain),
            _ => Err(unsafe_type()),
        }
    }
}

/// A token of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(fits)
}
