//! Ids of jobs are ULIDs: 26 characters of Crockford's base 32 that sort in the order in which the
//! jobs were started. The first ten characters encode the millisecond, the others are random. An id
//! is always greater than the previous one, so the order survives a clock that is set back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32, in ascending order, without letters that are easily confused.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 26;
const RANDOM_BITS: u32 = 80;

/// The numeric value of the id that follows `last`.
pub(crate) fn next(last: u128, now: SystemTime) -> u128 {
    let milliseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut random = [0; 16];
    // Without random bits, ids are still unique within the file, which is all that matters.
    let _ = getrandom::fill(&mut random);
    let random = u128::from_le_bytes(random) >> (u128::BITS - RANDOM_BITS);
    ((milliseconds << RANDOM_BITS) | random).max(last.saturating_add(1))
}

pub(crate) fn to_text(mut number: u128) -> String {
    let mut text = [b'0'; LENGTH];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(number % 32).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        number /= 32;
    }
    text.iter().map(|digit| char::from(*digit)).collect()
}

/// `None` if the text is not an id.
pub(crate) fn from_text(text: &str) -> Option<u128> {
    if text.len() != LENGTH {
        return None;
    }
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number.checked_mul(32)?.checked_add(u128::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_sort_by_start_even_if_the_clock_goes_back() {
        let mut last = 0;
        let mut texts = Vec::new();
        for seconds in [1_800_000_000_u64, 1_800_000_001, 1_700_000_000, 1_800_000_001, 0] {
            last = next(last, UNIX_EPOCH + Duration::from_secs(seconds));
            texts.push(to_text(last));
            assert_eq!(from_text(&to_text(last)), Some(last));
        }
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.len() == LENGTH));
    }

    #[test]
    fn other_texts_are_not_ids() {
        for text in ["", "x", "../../../../../../../home/", "0000000000000000000000000i"] {
            assert_eq!(from_text(text), None);
        }
        assert_eq!(from_text("00000000000000000000000010"), Some(32));
    }
}
