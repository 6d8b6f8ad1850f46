//! Failures made to order: full and read-only disks, failing system calls, files that the gateway may
//! not open. What a machine does not allow is skipped and reported.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tempfile::NamedTempFile;

use crate::program::{LONG, Program};
use crate::tools;

/// A disk in memory. It is unmounted when this is dropped, even if it is still in use.
#[derive(Debug)]
pub struct Tmpfs {
    at: PathBuf,
}

impl Tmpfs {
    /// Mounts one on a folder, with options such as `size=8m`. If that is not allowed, reports that
    /// `check` is skipped and returns none.
    pub fn mount(check: &str, at: &Path, options: &str) -> Option<Self> {
        let data = CString::new(options).unwrap();
        match mount("tmpfs", at, "tmpfs", MountFlags::empty(), data.as_c_str()) {
            Ok(()) => Some(Self { at: at.to_owned() }),
            Err(error) => {
                tools::skip(check, &format!("mounting a tmpfs: {error}; run as root"));
                None
            }
        }
    }

    /// Changes its options, such as `size=16m`.
    #[track_caller]
    pub fn change(&self, options: &str) {
        mount_remount(&self.at, MountFlags::empty(), options).unwrap();
    }

    /// Makes it read-only, or writable again. The kernel refuses to make it read-only while a file on
    /// it is open for writing.
    pub fn set_read_only(&self, read_only: bool) -> io::Result<()> {
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        Ok(mount_remount(&self.at, flags, "")?)
    }

    /// Free space in bytes.
    pub fn free(&self) -> u64 {
        let facts = rustix::fs::statvfs(&self.at).unwrap();
        assert!(!facts.f_flag.contains(StatVfsMountFlags::RDONLY));
        facts.f_bavail * facts.f_frsize
    }

    /// How many more files can be created.
    pub fn free_files(&self) -> u64 {
        rustix::fs::statvfs(&self.at).unwrap().f_favail
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.at, UnmountFlags::DETACH) {
            tools::report(&format!("cannot unmount {}: {error}", self.at.display()));
        }
    }
}

/// A program whose system calls fail, until this is dropped.
#[derive(Debug)]
pub struct Strace {
    program: Program,
    log: NamedTempFile,
}

impl Strace {
    /// Makes calls of a running program fail, wait or kill it, in the syntax of strace's `inject`:
    /// `fsync:error=EIO:when=2` is each thread's second call. If there is no strace, or it may not
    /// trace, reports that `check` is skipped and returns none.
    pub fn attach(check: &str, target: &Program, inject: &str) -> Option<Self> {
        let Some(strace) = tools::find("strace") else {
            tools::skip(check, "strace is not installed");
            return None;
        };
        let log = NamedTempFile::new().unwrap();
        let (calls, _) = inject.split_once(':').unwrap();
        let mut command = Command::new(strace);
        command
            .args(["--follow-forks", "--output"])
            .arg(log.path())
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")])
            .args(["--attach", &target.id().to_string()]);
        let program = Program::start(command);
        let (_, said) = program.stderr.wait_for_either(0, &[&["attached"], &["strace: "]]);
        if said.contains("attached") {
            return Some(Self { program, log });
        }
        tools::skip(check, &format!("{said}; allow tracing, or run as root"));
        None
    }

    /// Detaches from the program and returns the traced calls, one in each line.
    #[track_caller]
    pub fn detach(mut self) -> String {
        self.program.signal(Signal::INT);
        self.program.wait(LONG);
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// The same for a program whose calls were to fail; panics if none did.
    #[track_caller]
    pub fn detach_after_failures(self) {
        let calls = self.detach();
        assert!(calls.contains("(INJECTED)"), "nothing failed:\n{calls}");
    }
}

/// The same command without root's capability to open what file modes forbid. If that cannot be taken
/// away, reports that `check` is skipped and returns none. Other users do not have it anyway.
pub fn bound_by_modes(check: &str, command: Command) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(command);
    }
    let Some(setpriv) = tools::find("setpriv") else {
        tools::skip(check, "root opens everything; install util-linux for its setpriv");
        return None;
    };
    let mut bound = Command::new(setpriv);
    bound.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]);
    Some(run_by(bound, &command))
}

/// The same command without the right to execute memory that it has written, as systemd starts services
/// with `MemoryDenyWriteExecute=`. If that cannot be taken away, reports that `check` is skipped and
/// returns none.
pub fn without_executable_memory(check: &str, command: &Command) -> Option<Command> {
    // PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN, which Linux has since 6.3.
    const DENY: &str = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)
os.execvp(sys.argv[1], sys.argv[1:])";
    let python = tools::find_for("python3", check)?;
    let denied = |command: &Command| {
        let mut deny = Command::new(&python);
        deny.args(["-c", DENY]);
        run_by(deny, command)
    };
    if tools::run(denied(&Command::new("true"))).status.code() == Some(77) {
        tools::skip(check, "this kernel has no PR_SET_MDWE; Linux 6.3 has");
        return None;
    }
    Some(denied(command))
}

/// The same command with at most this many bytes of address space.
pub fn with_address_space(bytes: u64, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -v {} && exec \"$@\"", bytes >> 10), "sh"]);
    run_by(limited, command)
}

/// The same command with at most this many open files.
pub fn with_open_files(count: u64, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {count} && exec \"$@\""), "sh"]);
    run_by(limited, command)
}

/// The same command, run by another one that takes it as its last arguments.
fn run_by(mut first: Command, command: &Command) -> Command {
    first.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => first.env(name, value),
            None => first.env_remove(name),
        };
    }
    first
}

/// What a process has open, one line for each descriptor.
pub fn descriptors(program: &Program) -> Vec<String> {
    let folder = format!("/proc/{}/fd", program.id());
    // A descriptor that is closed in the meantime is not open.
    let links = fs::read_dir(folder).unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
    links.flatten().map(|link| link.display().to_string()).collect()
}

/// Allows this process, and those that it starts from now on, to have this many open files. If that is
/// not allowed, reports that `check` is skipped and returns false.
pub fn allow_open_files(check: &str, count: u64) -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= count) {
        return true;
    }
    let allowed = maximum.is_none_or(|maximum| maximum >= count)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).is_ok();
    if !allowed {
        let how = format!("a process may have {maximum:?} open files; allow {count}");
        tools::skip(check, &how);
    }
    allowed
}
