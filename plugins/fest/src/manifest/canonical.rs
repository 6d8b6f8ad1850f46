//! What two texts of JSON have in common that are the same value: blanks, the order of members, escapes in texts and the
//! form of numbers do not count. Of members with the same name, the last counts.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::object::{Member, Pairs};

/// Appends the one form that all texts of a value have.
pub(super) fn write(value: &RawValue, form: &mut Vec<u8>) {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Ok(Pairs(members)) = serde_json::from_str(text) else { return };
            let mut members: Vec<_> = members.iter().map(|(name, value)| (name, *value)).collect();
            last_of_each(&mut members, |(name, _)| name);
            form.push(b'{');
            for (name, value) in members {
                write_name(name, form);
                write(value, form);
                form.push(b',');
            }
            form.push(b'}');
        }
        Some(b'[') => {
            let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else { return };
            form.push(b'[');
            for item in items {
                write(item, form);
                form.push(b',');
            }
            form.push(b']');
        }
        Some(b'"') if text.contains('\\') => {
            let plain: String = serde_json::from_str(text).unwrap_or_default();
            write_text(&plain, form);
        }
        Some(b'-' | b'0'..=b'9') => form.extend(number(text).as_bytes()),
        _ => form.extend(text.as_bytes()),
    }
}

/// Appends the name of a member.
pub(super) fn write_name(name: &str, form: &mut Vec<u8>) {
    write_text(name, form);
    form.push(b':');
}

/// Sorts members by their names, and keeps the last of those with the same.
pub(super) fn by_name<'a, 'b>(members: &'b [Member<'a>]) -> Vec<&'b Member<'a>> {
    let mut members: Vec<_> = members.iter().collect();
    last_of_each(&mut members, |member| &member.name);
    members
}

fn last_of_each<'a, T: Copy>(members: &mut Vec<T>, name: impl Fn(T) -> &'a Cow<'a, str>) {
    members.reverse();
    // Stable, so the last of each name is the first.
    members.sort_by(|one, other| name(*one).cmp(name(*other)));
    members.dedup_by(|one, other| name(*one) == name(*other));
}

fn write_text(text: &str, form: &mut Vec<u8>) {
    // It cannot fail: memory takes everything.
    let _ = serde_json::to_writer(form, text);
}

/// Whole numbers as they are, others as the closest one that a computer has: 2.50 and 25e-1 are the same.
fn number(text: &str) -> Cow<'_, str> {
    if text.parse::<i128>().is_ok() {
        return if text == "-0" { "0".into() } else { text.into() };
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => format!("{number}").into(),
        // Larger than any; then its text is what it is.
        _ => text.into(),
    }
}
