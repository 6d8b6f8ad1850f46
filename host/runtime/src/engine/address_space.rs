//! The address space of this process, where the system limits it (`ulimit -v`, systemd's `LimitAS=`): how
//! much of it instances may take, and what to tell the operator when there is too little.
//!
//! Without a limit nothing here does anything. With one, a reservation that fails is the host's lack and not
//! the plugin's fault; and an allocation of the host's own that fails ends the process, so instances leave a
//! part of the address space to the host.

use std::fmt::Write as _;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The part of the limit that instances leave to the host: one eighth, ...
const PART: u64 = 8;
/// ... but no more than this.
const MOST: u64 = 256 << 20;

/// The limit of this process's address space, in bytes; `None` if there is none.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Why an instance may not take this many bytes more; `None` if it may.
pub(crate) fn shortage(more: u64) -> Option<String> {
    let limit = limit()?;
    let left = limit.saturating_sub(in_use()?);
    let reserved = (limit / PART).min(MOST);
    (left < reserved.saturating_add(more)).then(|| explained("too little address space is left"))
}

/// What the system said, and which limit there is.
pub(crate) fn explained(what: &str) -> String {
    let mut why = what.to_owned();
    if let Some(limit) = limit() {
        // Writing to a text does not fail.
        let _ = write!(
            why,
            "; this process may use {} MiB of address space (ulimit -v, LimitAS=)",
            limit >> 20
        );
    }
    why
}

/// Whether an error says that the system has no memory or no address space left.
pub(crate) fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>()
        || error.chain().any(|cause| {
            let system = cause.downcast_ref::<std::io::Error>();
            cause.downcast_ref() == Some(&Errno::NOMEM)
                || system.and_then(Errno::from_io_error) == Some(Errno::NOMEM)
        })
}

/// Address space of this process, in bytes; `None` if /proc is not there.
fn in_use() -> Option<u64> {
    statm(0)
}

/// Memory of this process, in bytes; `None` if /proc is not there.
pub(super) fn resident() -> Option<u64> {
    statm(1)
}

/// A field of /proc/self/statm, which counts pages, in bytes.
fn statm(field: usize) -> Option<u64> {
    let fields = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = fields.split_ascii_whitespace().nth(field)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_known() {
        let (all, resident) = (in_use().unwrap(), resident().unwrap());
        assert!(resident > 1 << 20 && resident < all, "{resident} of {all}");
    }

    #[test]
    fn a_lack_of_memory_is_recognised_whoever_reports_it() {
        let system = std::io::Error::from_raw_os_error(Errno::NOMEM.raw_os_error());
        let errno = || wasmtime::Error::from(Errno::NOMEM);
        for error in [errno(), errno().context("mmap"), wasmtime::Error::from(system)] {
            assert!(is_out_of_memory(&error), "{error:?}");
        }
        for error in [wasmtime::Error::from(Errno::ACCESS), wasmtime::format_err!("a trap")] {
            assert!(!is_out_of_memory(&error), "{error:?}");
        }
    }
}
