//! Media types of request bodies.

/// JSON's media type.
pub(crate) const JSON: &str = "application/json";
/// The media type of forms, as browsers send them.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// A media type in lower case, without parameters.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a media type is JSON, or has the suffix for JSON (RFC 6839).
pub(crate) fn is_json(essence: &str) -> bool {
    essence == JSON || essence.ends_with("+json")
}
