//! Adds up the results of test programs. libtest prints a line for each of them, such as
//! `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s`.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests and steps that failed.
    pub(crate) failed: u64,
    /// Ignored tests, and checks that could not run on this machine.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds a line of a test program's output, if it is a result.
    pub(crate) fn observe(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                Some((count, "ignored")) => self.skipped += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 2 tests
test blobs::put ... ok
test blobs::get ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s
test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 40 filtered out; finished in 0.00s
test result: \u{1b}[32mok\u{1b}[m. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
the test result: ok. 100 passed; 100 failed
";

    #[test]
    fn results_are_summed() {
        let mut tally = Tally::default();
        OUTPUT.lines().for_each(|line| tally.observe(line));
        assert_eq!(tally, Tally { passed: 18, failed: 1, skipped: 3 });
    }

    #[test]
    fn the_last_line_has_its_exact_form() {
        let tally = Tally { passed: 18, failed: 0, skipped: 3 };
        assert_eq!(tally.to_string(), "18 passed, 0 failed, 3 skipped");
    }
}
