//! JSON in and out: errors name the field and its position, and documents can be assembled from existing
//! JSON.

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Failure;

/// Parses JSON. `what` names it in the error, [`Failure::Invalid`], which has the field, the line and the
/// column.
///
/// ```
/// use keepgate_sdk::json;
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Target {
///     port: u16,
/// }
///
/// let error = json::parse::<Vec<Target>>("the target list", br#"[{"port": -1}]"#).unwrap_err();
/// let message = "the target list: [0].port: invalid value: integer `-1`, expected u16 at line 1 column 12";
/// assert_eq!(error.message(), message);
/// ```
pub fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(format!("{what}: {error}"));
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid(&error))?;
    json.end().map_err(|error| invalid(&error))?;
    Ok(value)
}

/// Writes a value on one line. Fails with [`Failure::Internal`] if JSON cannot express it, such as a map
/// whose keys are not strings.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::Internal(format!("as JSON: {error}")))
}

/// Whether bytes are exactly one JSON value.
pub fn is_valid(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// An array of elements that are already JSON.
///
/// ```
/// use keepgate_sdk::json;
///
/// assert_eq!(json::array([b"1".to_vec(), b"{}".to_vec()]), b"[1,{}]");
/// ```
pub fn array(elements: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut array = b"[".to_vec();
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            array.push(b',');
        }
        array.extend(element);
    }
    array.push(b']');
    array
}

/// Adds a member at the end of an object. The member's value is already JSON. Fails with
/// [`Failure::Internal`] if `object` does not serialize to an object.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Job {
///     id: u32,
/// }
///
/// let document = keepgate_sdk::json::with_member(&Job { id: 7 }, "result", br#"{"size":3}"#)?;
/// assert_eq!(document, br#"{"id":7,"result":{"size":3}}"#);
/// # Ok::<(), keepgate_sdk::Failure>(())
/// ```
pub fn with_member(object: &impl Serialize, name: &str, value: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut document = to_vec(object)?;
    if document.pop() != Some(b'}') {
        return Err(Failure::Internal("expected an object to add a member to".to_owned()));
    }
    if document.len() > 1 {
        document.push(b',');
    }
    document.extend(to_vec(&name)?);
    document.push(b':');
    document.extend_from_slice(value);
    document.push(b'}');
    Ok(document)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn text_after_the_value_is_an_error() {
        let failure = parse::<Value>("the body", b"{} {}").unwrap_err();
        assert!(failure.message().starts_with("the body: trailing characters"), "{failure:?}");
        assert_eq!(parse::<Value>("the body", b" 1 \n"), Ok(json!(1)));
    }

    #[test]
    fn documents_are_put_together_from_json() {
        assert_eq!(array([]), b"[]");
        assert_eq!(with_member(&json!({}), "a\"b", b"1").unwrap(), br#"{"a\"b":1}"#);
        assert!(matches!(with_member(&json!([]), "a", b"1"), Err(Failure::Internal(_))));
        assert!(is_valid(b" {} ") && !is_valid(b"{") && !is_valid(b""));
    }

    #[test]
    fn what_has_no_form_in_json_is_an_internal_failure() {
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(to_vec(&map), Err(Failure::Internal(_))));
    }
}
