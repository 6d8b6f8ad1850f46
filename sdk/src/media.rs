//! Media types of bodies that requests bring.

/// Of JSON.
pub(crate) const JSON: &str = "application/json";
/// Of forms, as browsers send them.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// In lower case, without parameters.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// JSON, or a form of its own that is JSON (RFC 6839).
pub(crate) fn is_json(essence: &str) -> bool {
    essence == JSON || essence.ends_with("+json")
}
