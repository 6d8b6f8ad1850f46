//! How much memory there is for this process: the machine's, or less if the system gives its control group less, as
//! systemd's `MemoryMax=` and containers do.

use std::path::Path;

/// In bytes; `None` if the system does not say.
pub(super) fn memory() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(|line| limit(Path::new("/sys/fs/cgroup"), line));
    machine.into_iter().chain(limits).min()
}

/// The whole memory, by the text of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least limit of a control group and of those around it, by a line of `/proc/self/cgroup`: `0::/PATH` in version 2,
/// `N:memory:/PATH` in version 1.
fn limit(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // Within a container, the path may be that on the machine, which is not there; the group itself is at the root.
    let relative = Path::new(path).strip_prefix("/").ok()?;
    let read = |group: &Path| std::fs::read_to_string(root.join(group).join(file)).ok();
    let limits = relative.ancestors().filter_map(read);
    // Without a limit, version 2 says `max`, and version 1 a number that is more than any machine has.
    limits.filter_map(|text| text.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let bytes = memory().unwrap();
        assert!(bytes > 64 << 20, "{bytes}");
        assert_eq!(total("MemFree:  1 kB\nMemTotal:       16 kB\n"), Some(16384));
    }

    #[test]
    fn the_least_limit_around_the_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("memory.max", "max\n");
        write("system.slice/memory.max", "1000\n");
        write("system.slice/keepgate.service/memory.max", "2000\n");
        write("memory/docker/memory.limit_in_bytes", "300\n");
        let limit = |line| limit(root.path(), line);
        assert_eq!(limit("0::/system.slice/keepgate.service"), Some(1000));
        assert_eq!(limit("0::/"), None);
        assert_eq!(limit("0::/not/here"), None);
        assert_eq!(limit("4:cpu,memory:/docker"), Some(300));
        assert_eq!(limit("5:cpu:/docker"), None);
        assert_eq!(limit("nonsense"), None);
    }
}
