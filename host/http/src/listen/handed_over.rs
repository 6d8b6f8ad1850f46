//! Sockets that systemd listens on and hands over, as `sd_listen_fds(3)` describes: so many
//! descriptors from 3 on, with names, for the process of one number.
//!
//! The environment is read once. What is taken is taken: a second listener cannot have it.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use listenfd::ListenFd;

use super::Listener;

/// The name of sockets that have none, as systemd has it.
const NAMELESS: &str = "unknown";

/// Why a socket cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandedOverError {
    /// No service manager, or none that listens for this service.
    #[error(
        "no socket was handed over (LISTEN_FDS and LISTEN_PID say so); start the service by its \
         .socket unit"
    )]
    Nothing,
    /// The sockets are for a parent, say, or for a shell in between.
    #[error(
        "the sockets were handed over to process {theirs:?} (LISTEN_PID), and this one is {ours}; \
         start this program itself, without a wrapper that stays"
    )]
    OtherProcess {
        /// What `LISTEN_PID` says.
        theirs: String,
        /// The number of this process.
        ours: u32,
    },
    /// Which one is meant must be said.
    #[error(
        "more than one socket was handed over ({}); name one, as in systemd:{}",
        names.join(", "), names.first().map_or("NAME", String::as_str)
    )]
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// No socket has the name.
    #[error(
        "no socket of this name was handed over, but {}; the name is FileDescriptorName= in the \
         .socket unit",
        names.join(", ")
    )]
    UnknownName {
        /// The names that there are.
        names: Vec<String>,
    },
    /// The name does not say which one.
    #[error(
        "{count} sockets of this name were handed over; give each a .socket unit with a \
         FileDescriptorName= of its own"
    )]
    SameName {
        /// How many.
        count: usize,
    },
    /// Another listener has it.
    #[error("another listener has taken this socket already")]
    Taken,
    /// UDP, or its Unix sibling.
    #[error("it is a datagram socket; write ListenStream= in the .socket unit")]
    Datagram,
    /// One connection rather than a socket that listens.
    #[error("it does not listen, but is a connection; write Accept=no in the .socket unit")]
    Connection,
    /// A FIFO, say.
    #[error("it is no TCP or Unix stream socket; write ListenStream= in the .socket unit")]
    NotAStream,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was handed over to this process.
pub struct HandedOver {
    /// None: nothing, and why.
    sockets: Result<Mutex<Sockets>, Nothing>,
}

struct Sockets {
    descriptors: ListenFd,
    names: Vec<String>,
}

enum Nothing {
    NotSet,
    OtherProcess(String),
}

/// What was handed over to this process, read from its environment at the first call, which takes
/// `LISTEN_FDS` and `LISTEN_PID` away: processes that are started later must not believe that
/// the sockets are theirs. Binding calls this by itself; a program that starts threads which
/// read the environment through the C library calls it before those.
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
        // In any case, so that the variables are gone.
        let descriptors = descriptors();
        let sockets = match pid {
            Some(pid) if is_set && pid.parse() != Ok(ours) => Err(Nothing::OtherProcess(pid)),
            Some(_) if descriptors.len() > 0 => {
                let given = names.into_iter().flat_map(|names| names.split(':'));
                let given = given.map(|name| if name.is_empty() { NAMELESS } else { name });
                let names = given.chain(std::iter::repeat(NAMELESS)).take(descriptors.len());
                let names = names.map(str::to_owned).collect();
                Ok(Mutex::new(Sockets { descriptors, names }))
            }
            _ => Err(Nothing::NotSet),
        };
        Self { sockets }
    }

    /// How many sockets were handed over.
    pub fn count(&self) -> usize {
        self.sockets.as_ref().map_or(0, |sockets| lock(sockets).names.len())
    }

    /// The socket of this name; without a name the only one.
    pub(super) fn take(&self, name: Option<&str>) -> Result<Listener, HandedOverError> {
        match &self.sockets {
            Ok(sockets) => lock(sockets).take(name),
            Err(Nothing::NotSet) => Err(HandedOverError::Nothing),
            Err(Nothing::OtherProcess(theirs)) => Err(HandedOverError::OtherProcess {
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

    // With sockets: `tests/serving/handed_over.rs`, in processes of their own.
    #[test]
    fn says_why_there_is_nothing() {
        let ours = std::process::id().to_string();
        for (is_set, pid) in [(false, None), (false, Some("1")), (true, None), (true, Some(&*ours))]
        {
            assert!(error(is_set, pid).starts_with("no socket was handed over"), "{pid:?}");
        }
        let other = error(true, Some("1"));
        assert!(other.contains("process \"1\"") && other.contains(&ours), "{other}");
    }
}
