//! Raises the number of files that this process may have open as far as the system allows.
//!
//! Each connection and each open blob is a file. Services start with a limit of 1024, which exists for programs that use
//! `select` and which systemd and others expect programs to raise; the hard limit is the operator's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// If there is no hard limit. More than this costs the kernel memory, and Linux allows no more by default.
const MOST: u64 = 1 << 20;

/// Raises the limit. If that fails, it stays as it is.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MOST);
    if current.is_some_and(|current| current < wanted) {
        // Refused by sandboxes that forbid the system call.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert!(current.is_none() || current >= maximum.or(Some(MOST)));
    }
}
