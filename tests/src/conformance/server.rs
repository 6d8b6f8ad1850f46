//! A server to hold the cases against: one that is started for a set of flags on a folder of its
//! own, or one that serves already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Endpoint, Trust};
use crate::program::Program;

/// How long a server that was told to end may take.
const END: Duration = Duration::from_secs(20);

/// What a server is started with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// rest-server's flags, `{scratch}` and `{data}` not yet filled.
    pub flags: Vec<String>,
    /// `.htpasswd`.
    pub users: Option<String>,
    /// Names and bytes of files that are there before.
    pub preload: Vec<(String, Vec<u8>)>,
}

impl Kind {
    /// The flags in one line, for people.
    pub fn name(&self) -> String {
        self.all_flags().join(" ")
    }

    /// Without users, and without somebody else who tells their names, there is no authentication.
    fn all_flags(&self) -> Vec<String> {
        let told =
            |flag: &String| flag.starts_with("--proxy-auth") || flag.starts_with("--htpasswd");
        let open = self.users.is_none() && !self.flags.iter().any(told);
        let open = open.then(|| "--no-auth".to_owned());
        open.into_iter().chain(self.flags.iter().cloned()).collect()
    }

    fn tls(&self) -> bool {
        self.flags.iter().any(|flag| flag == "--tls")
    }
}

/// A server that cases are held against.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its path without the slash at the end: what comes before a repository's folder.
    pub base: String,
    /// Its data, where that can be reached.
    pub data: Option<PathBuf>,
    /// For logs and certificates.
    pub scratch: PathBuf,
    /// Who asks, where a case says nothing of that: `NAME:PASSWORD`.
    pub login: Option<String>,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    program: Program,
    /// Its data and scratch.
    _folder: TempDir,
}

/// How a start ended.
#[derive(Debug)]
pub enum Start {
    /// It serves.
    Serving(Box<Server>),
    /// It ended, with failure or not, and said this.
    Ended(bool, String),
}

impl Server {
    /// One that serves already, at `http://[NAME:PASSWORD@]HOST:PORT/PATH/`.
    pub fn at(url: &str, data: Option<&Path>) -> Result<Self, String> {
        use std::net::ToSocketAddrs as _;
        let wrong = || format!("`{url}` is not http://[NAME:PASSWORD@]HOST:PORT/PATH/");
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.to_owned()), host),
            None => (None, authority),
        };
        let mut addresses = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = addresses.next().ok_or_else(wrong)?;
        let path = path.trim_end_matches('/');
        let base = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self {
            endpoint: Endpoint::tcp(address),
            base,
            data: data.map(Path::to_owned),
            scratch: PathBuf::new(),
            login,
            process: None,
        })
    }

    /// Starts one. `template` is the command line; `{flags}`, `{path}`, and the line that says
    /// where it serves are rest-server's.
    pub fn start(template: &str, kind: &Kind) -> Result<Start, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        let (data, scratch) = (folder.path().join("data"), folder.path().join("scratch"));
        let prepared = prepare(kind, &data, &scratch);
        let trust = prepared.map_err(|error| format!("{}: {error}", folder.path().display()))?;

        let text = |path: &Path| path.display().to_string();
        let place =
            |word: &str| word.replace("{scratch}", &text(&scratch)).replace("{data}", &text(&data));
        let mut words = Vec::new();
        for word in template.split_whitespace() {
            match word {
                "{flags}" => words.extend(kind.all_flags().iter().map(|flag| place(flag))),
                word => words.push(word.replace("{path}", &text(&data))),
            }
        }
        let (name, arguments) = words.split_first().ok_or("--start is empty")?;
        let mut command = Command::new(name);
        command.args(arguments);
        let started = Program::try_start_with(&mut command, b"");
        let mut program = started.map_err(|error| format!("{name}: {error}"))?;
        let (_, line) = match program.stderr.find(0, &[&["start server on "]]) {
            Ok(found) => found,
            Err(said) => {
                let status = program.try_wait(END).ok_or("it says no `start server on ADDRESS`")?;
                return Ok(Start::Ended(status.success(), said));
            }
        };
        let (_, address) = line.split_once("start server on ").unwrap_or_default();
        let port = address.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| format!("no port in `{line}`"))?;
        let mut endpoint = Endpoint::tcp(([127, 0, 0, 1], port).into());
        if let Some(trust) = &trust {
            endpoint = endpoint.tls(trust);
        }
        Ok(Start::Serving(Box::new(Self {
            endpoint,
            base: String::new(),
            data: Some(data),
            scratch,
            login: None,
            process: Some(Process { program, _folder: folder }),
        })))
    }

    /// What it has said on standard error. Empty for one that served already.
    pub fn said(&self) -> String {
        self.process.as_ref().map_or_else(String::new, |process| process.program.stderr.text())
    }

    /// Whether it ends by itself within a moment, with failure or not, and what it said: some
    /// servers say that they serve, and find out then that they cannot.
    pub fn ends_by_itself(&mut self) -> Option<(bool, String)> {
        let process = self.process.as_mut()?;
        let status = process.program.try_wait(Duration::from_secs(5))?;
        Some((status.success(), process.program.stderr.text()))
    }

    /// Sends it a signal: `HUP`.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let signal = match name {
            "HUP" => Signal::HUP,
            other => return Err(format!("there is no signal `{other}` here")),
        };
        let process = self.process.as_ref().ok_or("the server was not started by us")?;
        process.program.signal(signal);
        Ok(())
    }

    /// Ends one that was started, by its own id. It must go when it is told, without failure.
    pub fn stop(self) -> Result<(), String> {
        let Some(mut process) = self.process else { return Ok(()) };
        process.program.signal(Signal::TERM);
        match process.program.try_wait(END) {
            None => Err(format!("still there {END:?} after SIGTERM")),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{status} after SIGTERM")),
        }
    }
}

/// Makes the folders and what is in them; certificates where they are asked for.
fn prepare(kind: &Kind, data: &Path, scratch: &Path) -> std::io::Result<Option<Trust>> {
    fs::create_dir_all(data)?;
    fs::create_dir_all(scratch)?;
    if let Some(users) = &kind.users {
        fs::write(data.join(".htpasswd"), users)?;
    }
    for (name, bytes) in &kind.preload {
        let file = data.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, bytes)?;
    }
    if !kind.flags.iter().any(|flag| flag.starts_with("--tls")) {
        return Ok(None);
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(std::io::Error::other)?;
    // The second pair of names are rest-server's, when no flag says others.
    let places = [scratch.join("cert.pem"), data.join("public_key")];
    for place in &places {
        fs::write(place, made.cert.pem())?;
    }
    for place in [scratch.join("key.pem"), data.join("private_key")] {
        fs::write(place, made.signing_key.serialize_pem())?;
    }
    Ok(kind.tls().then(|| Trust::file(&places[0])))
}
