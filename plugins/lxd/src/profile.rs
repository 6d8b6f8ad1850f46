//! Profiles of instances as YAML, as `lxc profile show` prints them.

use keepgate_sdk::Failure;
use serde_json::{Map, Value};

/// What a profile's object holds of it.
const MEMBERS: [&str; 5] = ["config", "description", "devices", "name", "used_by"];
/// The longest profile that is read, in bytes.
pub(crate) const LONGEST: u64 = 4 * 1024 * 1024;

/// A profile of LXD as an object's bytes.
pub(crate) fn to_yaml(profile: &Value) -> Result<Vec<u8>, Failure> {
    let kept =
        MEMBERS.iter().filter_map(|name| Some(((*name).to_owned(), profile.get(name)?.clone())));
    let kept: Map<String, Value> = kept.collect();
    serde_yaml_ng::to_string(&kept)
        .map(String::into_bytes)
        .map_err(|error| Failure::Internal(format!("a profile cannot be written: {error}")))
}

/// A profile to create, from an object's bytes. The object's name says what it is called, whatever is in it.
pub(crate) fn from_yaml(name: &str, bytes: &[u8]) -> Result<Value, Failure> {
    let invalid = |why: &str| {
        Failure::refused(400, "", format!("the profile {name:?} cannot be read: {why}"))
    };
    let read: Value =
        serde_yaml_ng::from_slice(bytes).map_err(|error| invalid(&error.to_string()))?;
    let Value::Object(read) = read else {
        return Err(invalid("it is no profile"));
    };
    let mut profile = Map::new();
    for member in ["config", "description", "devices"] {
        if let Some(value) = read.get(member).filter(|value| !value.is_null()) {
            profile.insert(member.to_owned(), value.clone());
        }
    }
    profile.insert("name".to_owned(), name.into());
    Ok(Value::Object(profile))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_the_same_after_a_restore() {
        let profile = json!({
            "config": {"limits.cpu": "2", "user.data": "a: b\n# c\n", "boot": "true"},
            "description": "x \"y\" é",
            "devices": {"root": {"path": "/", "pool": "default", "type": "disk"}},
            "name": "p1",
            "used_by": ["/1.0/instances/c1"],
            "project": "default",
        });
        let yaml = to_yaml(&profile).unwrap();
        let text = String::from_utf8(yaml.clone()).unwrap();
        assert!(text.starts_with("config:\n") && text.contains("limits.cpu: '2'"), "{text}");
        let read = from_yaml("p1", &yaml).unwrap();
        for member in ["config", "description", "devices", "name"] {
            assert_eq!(read[member], profile[member], "{member}");
        }
        assert_eq!(read.get("used_by"), None);
    }

    #[test]
    fn what_lxc_prints_is_read() {
        let text = b"config:\n  limits.cpu: \"2\"\ndescription: Default LXD profile\ndevices:\n  root:\n    path: /\n    \
            pool: default\n    type: disk\nname: default\nused_by: []\n";
        let read = from_yaml("default", text).unwrap();
        assert_eq!(read["devices"]["root"]["pool"], "default");
        assert_eq!(read["config"]["limits.cpu"], "2");
        for wrong in [b"- a".as_slice(), b"a: [", b"\xff"] {
            assert!(from_yaml("x", wrong).is_err());
        }
    }
}
