//! What glibc's allocator does with the memory of this process: how much address space it reserves, and when it gives back
//! what has been freed.
//!
//! It keeps an arena for each thread that allocates, and gives memory back only from the end of one, and only if there is
//! more than a threshold, which grows with what is freed. After plugins have made the gateway hold half a gigabyte several
//! times over, all of it freed, it kept one gigabyte (2026-12). Other allocators give more back, but take twice as much for
//! the main job. So the threshold is fixed, and what is free before the end is given back in rounds.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use keepgate_runtime::PluginMemory;
use rustix::process::{Resource, getrlimit};

/// glibc's variable.
const ARENAS: &str = "MALLOC_ARENA_MAX";
/// More than a transfer allocates at once, and little for each of the arenas that there may be, in bytes.
#[cfg(target_env = "gnu")]
const THRESHOLD: i32 = 4 << 20;
/// How often to look whether there is something to give back.
const LOOK: Duration = Duration::from_millis(250);
/// How many looks at a process that does not grow are between two attempts, and how many at most.
const LOOKS: u32 = 40;
const MOST_LOOKS: u32 = 240;
/// What is much to grow by, in bytes.
const GROWN: u64 = 128 << 20;
/// What the gateway may have besides what it began with and what plugins have taken, before they may take less, in bytes.
const OWN: u64 = 192 << 20;
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

/// Fixes from how many bytes on memory at the end of an arena is given back at once, and an allocation gets a mapping of its
/// own; unless the operator has chosen. To be called before there are threads.
pub(crate) fn fix_thresholds() {
    let chosen = ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"];
    if chosen.into_iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of glibc that has no safe form")]
    // SAFETY: it takes two numbers, and there are no other threads yet that might read what it sets.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
    }
}

/// Gives freed memory back to the system, again and again: as soon as this process has grown by much, because some of what
/// it has may be free, and when it has stopped growing. What was in use at one time may be free at the next, without a sign
/// of it in how much there is; so it is tried again, but more rarely if nothing came of it.
///
/// What the process has beyond what plugins have taken is the gateway's own, or was freed and is not given back yet. It
/// does not count for plugins, who could make the process take twice what they may have; so what is more than
/// [`OWN`] of it is withheld from them.
pub(crate) async fn give_back_what_is_freed(plugins: PluginMemory) {
    let mut least = resident();
    // After the last attempt, and at the last look.
    let (mut left, mut last) = (least, u64::MAX);
    let (mut pause, mut looks) = (LOOKS, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = resident();
        least = least.min(now);
        plugins.withhold(now.saturating_sub(least + OWN).saturating_sub(plugins.used()));
        looks += 1;
        let has_grown = now > left.saturating_add(GROWN);
        let is_idle = looks >= pause && now <= last;
        if now > least.saturating_add(WORTH) && (has_grown || is_idle) {
            let begun = Instant::now();
            // Nothing panics in there, and if it did, a later round would try again.
            let _ = tokio::task::spawn_blocking(trim).await;
            left = resident();
            let freed = now.saturating_sub(left);
            tracing::debug!(bytes = freed, took = ?begun.elapsed(), "gave back freed memory");
            pause = if freed < WORTH / 4 { MOST_LOOKS.min(pause * 2) } else { LOOKS };
            looks = 0;
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
        fix_thresholds();
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
