//! Sockets that systemd listens on and hands over as described in `sd_listen_fds(3)`: file descriptors
//! from 3 on, with names, for the process with a given id.
//!
//! The environment is read once, and each socket can be taken once.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use listenfd::ListenFd;

use super::Listener;

/// systemd's name for sockets without one.
const NAMELESS: &str = "unknown";

/// Why a socket cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandedOverError {
    /// There is no service manager, or it does not listen for this service.
    #[error(
        "no socket was handed over (according to LISTEN_FDS and LISTEN_PID); start the service \
         through its .socket unit"
    )]
    Nothing,
    /// The sockets are for another process, for example for a parent shell.
    #[error(
        "the sockets were handed over to process {theirs:?} (LISTEN_PID), but this is process \
         {ours}; start this program directly, without a wrapper process"
    )]
    OtherProcess {
        /// The value of `LISTEN_PID`.
        theirs: String,
        /// The id of this process.
        ours: u32,
    },
    /// There are several sockets, and the address names none.
    #[error(
        "more than one socket was handed over ({}); name one, for example systemd:{}",
        names.join(", "), names.first().map_or("NAME", String::as_str)
    )]
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// No socket has the name.
    #[error(
        "no socket with this name was handed over, only {}; set the name with \
         FileDescriptorName= in the .socket unit",
        names.join(", ")
    )]
    UnknownName {
        /// The names of all sockets.
        names: Vec<String>,
    },
    /// Several sockets have the name.
    #[error(
        "{count} sockets with this name were handed over; give each its own .socket unit with a \
         different FileDescriptorName="
    )]
    SameName {
        /// How many.
        count: usize,
    },
    /// Another listener uses it.
    #[error("another listener already uses this socket")]
    Taken,
    /// UDP, or a Unix datagram socket.
    #[error("it is a datagram socket; write ListenStream= in the .socket unit")]
    Datagram,
    /// A single connection instead of a listening socket.
    #[error("it is a connection, not a listening socket; write Accept=no in the .socket unit")]
    Connection,
    /// For example a FIFO.
    #[error("it is not a TCP or Unix stream socket; write ListenStream= in the .socket unit")]
    NotAStream,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The sockets handed over to this process.
pub struct HandedOver {
    /// Or why there are none.
    sockets: Result<Mutex<Sockets>, NoSockets>,
}

struct Sockets {
    descriptors: ListenFd,
    names: Vec<String>,
}

enum NoSockets {
    NotSet,
    OtherProcess(String),
}

/// The sockets handed over to this process. The first call reads them from the environment and removes
/// `LISTEN_FDS` and `LISTEN_PID`, so that child processes do not take the sockets for theirs. Binding
/// calls this on its own; a program whose threads read the environment through the C library must call
/// it before it starts them.
pub fn take_handed_over() -> &'static HandedOver {
    static HANDED_OVER: OnceLock<HandedOver> = OnceLock::new();
    HANDED_OVER.get_or_init(|| {
        let variable = |name| env::var(name).ok();
        let pid = variable("LISTEN_PID");
        let names = variable("LISTEN_FDNAMES");
        let is_set = variable("LISTEN_FDS").is_some();
        HandedOver::new(is_set, pid, names.as_deref(), ListenFd::from_env)
    })
}

impl HandedOver {
    fn new(
        is_set: bool,
        pid: Option<String>,
        names: Option<&str>,
        descriptors: impl FnOnce() -> ListenFd,
    ) -> Self {
        let ours = std::process::id();
        // Always called, because it removes the variables.
        let descriptors = descriptors();
        let sockets = match pid {
            Some(pid) if is_set && pid.parse() != Ok(ours) => Err(NoSockets::OtherProcess(pid)),
            Some(_) if descriptors.len() > 0 => {
                let given = names.into_iter().flat_map(|names| names.split(':'));
                let given = given.map(|name| if name.is_empty() { NAMELESS } else { name });
                let names = given.chain(std::iter::repeat(NAMELESS)).take(descriptors.len());
                let names = names.map(str::to_owned).collect();
                Ok(Mutex::new(Sockets { descriptors, names }))
            }
            _ => Err(NoSockets::NotSet),
        };
        Self { sockets }
    }

    /// How many sockets were handed over.
    pub fn count(&self) -> usize {
        self.sockets.as_ref().map_or(0, |sockets| lock(sockets).names.len())
    }

    /// The socket with this name, or the only one.
    pub(super) fn take(&self, name: Option<&str>) -> Result<Listener, HandedOverError> {
        match &self.sockets {
            Ok(sockets) => lock(sockets).take(name),
            Err(NoSockets::NotSet) => Err(HandedOverError::Nothing),
            Err(NoSockets::OtherProcess(theirs)) => Err(HandedOverError::OtherProcess {
                theirs: theirs.clone(),
                ours: std::process::id(),
            }),
        }
    }
}

fn lock(sockets: &Mutex<Sockets>) -> std::sync::MutexGuard<'_, Sockets> {
    sockets.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sockets {
    fn take(&mut self, name: Option<&str>) -> Result<Listener, HandedOverError> {
        let index = self.find(name)?;
        if let Ok(taken) = self.descriptors.take_tcp_listener(index) {
            let listener = taken.ok_or(HandedOverError::Taken)?;
            check_listens(&listener)?;
            return Ok(Listener::of_tcp(listener)?);
        }
        if let Ok(taken) = self.descriptors.take_unix_listener(index) {
            let listener = taken.ok_or(HandedOverError::Taken)?;
            check_listens(&listener)?;
            return Ok(Listener::of_unix(listener)?);
        }
        let is_datagram = self.descriptors.take_udp_socket(index).is_ok()
            || self.descriptors.take_unix_datagram(index).is_ok();
        Err(if is_datagram { HandedOverError::Datagram } else { HandedOverError::NotAStream })
    }

    fn find(&self, name: Option<&str>) -> Result<usize, HandedOverError> {
        let Some(name) = name else {
            return match self.names.len() {
                1 => Ok(0),
                _ => Err(HandedOverError::Several { names: self.names.clone() }),
            };
        };
        let mut found = self.names.iter().enumerate().filter(|(_, known)| *known == name);
        match (found.next(), found.count()) {
            (Some((index, _)), 0) => Ok(index),
            (Some(_), others) => Err(HandedOverError::SameName { count: others + 1 }),
            (None, _) => Err(HandedOverError::UnknownName { names: self.names.clone() }),
        }
    }
}

fn check_listens(socket: &impl AsFd) -> Result<(), HandedOverError> {
    match rustix::net::sockopt::socket_acceptconn(socket).map_err(io::Error::from)? {
        true => Ok(()),
        false => Err(HandedOverError::Connection),
    }
}

impl std::fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandedOver").field("sockets", &self.count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(is_set: bool, pid: Option<&str>) -> String {
        let handed = HandedOver::new(is_set, pid.map(str::to_owned), None, ListenFd::empty);
        assert_eq!(handed.count(), 0);
        handed.take(None).unwrap_err().to_string()
    }

    // Tests with sockets run in their own processes: `tests/serving/handed_over.rs`.
    #[test]
    fn says_why_there_are_no_sockets() {
        let ours = std::process::id().to_string();
        for (is_set, pid) in [(false, None), (false, Some("1")), (true, None), (true, Some(&*ours))]
        {
            assert!(error(is_set, pid).starts_with("no socket was handed over"), "{pid:?}");
        }
        let other = error(true, Some("1"));
        assert!(other.contains("process \"1\"") && other.contains(&ours), "{other}");
    }
}
