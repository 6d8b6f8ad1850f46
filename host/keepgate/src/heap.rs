//! What glibc's allocator does with the memory of this process: how much address space it reserves, and when it gives back
//! what has been freed.
//!
//! It keeps an arena for each thread that allocates, and gives memory back only from the end of one. After plugins have
//! made the gateway hold half a gigabyte several times over, all of it freed, it kept one gigabyte (2026-12). Other
//! allocators give more back, but take twice as much for the main job.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// glibc's variable.
const ARENAS: &str = "MALLOC_ARENA_MAX";
/// How often to look whether there is much to give back.
const EVERY: Duration = Duration::from_secs(10);
/// What is worth the time that it takes, in bytes: tens of milliseconds, in which threads that allocate may wait.
const WORTH: u64 = 64 << 20;

/// Replaces this process by the same program with two arenas, if its address space is limited and the
/// operator has not chosen: glibc reserves 64 MiB for each, up to eight times the number of processors, and on a machine
/// with many that is more than such a limit allows before the first request. How many there are is read from the
/// environment when a program starts, so this starts it again. If that fails, it goes on as it is. To be called before
/// there are threads.
pub(crate) fn limit_arenas() {
    let chosen = env::var_os(ARENAS).is_some() || env::var_os("GLIBC_TUNABLES").is_some();
    if chosen || getrlimit(Resource::As).current.is_none() {
        return;
    }
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else { return };
    // Returns only if it fails: under an emulator, for example.
    let _ = Command::new(program).arg0(name).args(arguments).env(ARENAS, "2").exec();
}

/// Gives freed memory back to the system, again and again: whenever this process has much more than after the last time,
/// and has stopped growing.
pub(crate) async fn give_back_what_is_freed() {
    let (mut least, mut last) = (resident(), u64::MAX);
    loop {
        tokio::time::sleep(EVERY).await;
        let now = resident();
        least = least.min(now);
        if now > least.saturating_add(WORTH) && now <= last {
            // Nothing panics in there, and if it did, the next round would try again.
            let _ = tokio::task::spawn_blocking(trim).await;
            least = resident();
        }
        last = now;
    }
}

/// Gives all free memory of all arenas back to the system.
fn trim() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of glibc that has no safe form")]
    // SAFETY: it takes a number and may be called by any thread at any time; it moves and frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Memory of this process in bytes; 0 if the system does not say.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(not(target_env = "gnu"), ignore = "about glibc")]
    fn freed_memory_is_given_back() {
        let before = resident();
        assert!(before > 1 << 20, "{before}");
        // In an arena of its own, with something at the end that stays.
        let kept = std::thread::spawn(|| {
            let mut all: Vec<Vec<u8>> = (0..3000).map(|_| vec![1; 60_000]).collect();
            let last = all.pop();
            drop(all);
            last
        });
        let kept = kept.join().unwrap();
        trim();
        let more = resident().saturating_sub(before);
        assert!(more < 60 << 20, "{more} bytes of 180 MB are still there");
        drop(kept);
    }
}
