//! A server for cases: one that runs already, or one that is started with a case's flags in a folder of its
//! own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::endpoint::{Endpoint, Trust};
use super::process::Process;
use crate::case::{CertificateRules, StartRules, Values};

/// How long a server may take to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(20);
/// How long a server that should refuse to start may appear to serve.
const SEEMING: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Its flags, in which `{scratch}` and `{data}` are not yet filled in.
    pub(crate) flags: Vec<String>,
    /// The content of its htpasswd file.
    pub(crate) users: Option<String>,
    /// Files, by name, that exist before it starts.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Kind {
    /// All flags, including those that only servers without users get.
    pub(crate) fn all_flags(&self, rules: &StartRules) -> Vec<String> {
        let is_like = |flag: &String| {
            rules.unless_flag.as_ref().is_some_and(|pattern| pattern.is_match(flag))
        };
        let open = self.users.is_none() && !self.flags.iter().any(is_like);
        let open = if open { rules.without_users.as_slice() } else { Default::default() };
        open.iter().chain(&self.flags).cloned().collect()
    }
}

/// A server that cases run against.
#[derive(Debug)]
pub struct Server {
    pub(crate) endpoint: Endpoint,
    /// The value of `Host` in requests.
    pub(crate) host: String,
    /// The path of its URL, without a slash at the end.
    pub(crate) base: String,
    /// Its data folder, if that is accessible.
    pub(crate) data: Option<PathBuf>,
    /// A folder for logs and certificates.
    pub(crate) scratch: PathBuf,
    /// The `NAME:PASSWORD` of steps that have none.
    pub(crate) login: Option<String>,
    process: Option<Started>,
}

#[derive(Debug)]
struct Started {
    process: Process,
    /// Contains the data and scratch folders.
    _folder: TempDir,
}

/// The result of a start.
#[derive(Debug)]
pub(crate) enum Start {
    /// It serves.
    Serving(Box<Server>),
    /// It ended. The flag says whether it succeeded; the text is what it printed.
    Ended(bool, String),
}

impl Server {
    /// A server that runs already, at `http[s]://[NAME:PASSWORD@]HOST[:PORT]/PATH/`.
    ///
    /// # Errors
    ///
    /// If the URL has another form, or the certificates to trust cannot be read.
    pub fn at(url: &str, trust: &Trust) -> Result<Self, String> {
        let wrong = || format!("{url:?} is not http[s]://[NAME:PASSWORD@]HOST[:PORT]/PATH/");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.to_owned()), host),
            None => (None, authority),
        };
        let is_secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        // A colon in brackets is part of an IPv6 address.
        let parts = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let (name, port) = match parts {
            Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
            None => (host, if is_secure { 443 } else { 80 }),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || path.contains(['?', '#']) {
            return Err(wrong());
        }
        let endpoint = match is_secure {
            true => Endpoint::tls(name, port, trust)?,
            false => Endpoint::plain(name, port),
        };
        let path = path.trim_end_matches('/');
        let base = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self {
            endpoint,
            host: host.to_owned(),
            base,
            data: None,
            scratch: PathBuf::new(),
            login,
            process: None,
        })
    }

    /// Sets the folder in which the server keeps the data below its URL.
    #[must_use]
    pub fn with_data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Sets the `NAME:PASSWORD` of steps that have none.
    #[must_use]
    pub fn with_login(mut self, login: &str) -> Self {
        self.login = Some(login.to_owned());
        self
    }

    /// Starts a server. `template` is its command line, with `{flags}` and `{path}`.
    pub(crate) fn start(template: &str, kind: &Kind, rules: &StartRules) -> Result<Start, String> {
        let folder = tempfile::tempdir()
            .map_err(|error| format!("cannot create a temporary folder: {error}"))?;
        let (data, scratch) = (folder.path().join("data"), folder.path().join("scratch"));
        let mut places = Values::default();
        places.save("data", data.display().to_string());
        places.save("scratch", scratch.display().to_string());
        prepare(kind, rules, &data, &scratch)
            .map_err(|error| format!("{}: {error}", folder.path().display()))?;
        let flags = kind.all_flags(rules);
        let fill = |text: &String| places.fill(text);
        let filled = flags.iter().map(fill).collect::<Result<Vec<_>, _>>()?;
        let certificate = make_certificate(rules, &flags, &places)?;

        let mut words = Vec::new();
        for word in template.split_whitespace() {
            match word {
                "{flags}" => words.extend(filled.iter().cloned()),
                word => words.push(word.replace("{path}", &data.display().to_string())),
            }
        }
        let (name, arguments) = words.split_first().ok_or("the command line is empty")?;
        let started = Process::start(Command::new(name).args(arguments));
        let mut process = started.map_err(|error| format!("{name}: {error}"))?;
        let ready = rules.ready.as_ref();
        let ready = ready.ok_or(
            "surface.toml has no `start.ready`, the pattern for the line of a ready server",
        )?;
        let ready = ready.regex(&places)?;
        let address = match process.wait_for(&ready) {
            Ok(address) => address,
            Err(said) => {
                let ended = process.wait(ENDING);
                let ended =
                    ended.ok_or_else(|| format!("it printed no line that matches /{ready}/"))?;
                return Ok(Start::Ended(ended.success(), said));
            }
        };
        let port = address.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| format!("no port in {address:?}"))?;
        let endpoint = match &certificate {
            // The certificate is for this name.
            Some(file) => Endpoint::tls("localhost", port, &Trust::File(file.clone()))?,
            None => Endpoint::plain("127.0.0.1", port),
        };
        Ok(Start::Serving(Box::new(Self {
            endpoint,
            host: "localhost".to_owned(),
            base: String::new(),
            data: Some(data),
            scratch,
            login: None,
            process: Some(Started { process, _folder: folder }),
        })))
    }

    /// What it has printed on standard error; nothing if it ran already.
    pub(crate) fn said(&self) -> String {
        self.process.as_ref().map_or_else(String::new, |started| started.process.said())
    }

    /// Whether it was started here.
    pub(crate) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Waits a moment for it to end by itself. Returns whether it succeeded and what it printed, because some
    /// servers report that they serve before they find out that they cannot.
    pub(crate) fn ends_by_itself(&mut self) -> Option<(bool, String)> {
        let process = &mut self.process.as_mut()?.process;
        let status = process.wait(SEEMING)?;
        Some((status.success(), process.said()))
    }

    /// Sends a signal: `HUP`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let signal = match name {
            "HUP" => Signal::HUP,
            other => return Err(format!("unknown signal {other:?}; expected \"HUP\"")),
        };
        let started = self.process.as_ref().ok_or("the server was not started here")?;
        started.process.signal(signal).map_err(|error| error.to_string())
    }

    /// Stops a server that was started here. Fails if it does not exit successfully.
    pub(crate) fn stop(self) -> Result<(), String> {
        let Some(mut started) = self.process else { return Ok(()) };
        started.process.signal(Signal::TERM).map_err(|error| error.to_string())?;
        match started.process.wait(ENDING) {
            None => Err(format!("still running {ENDING:?} after SIGTERM")),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{status} after SIGTERM")),
        }
    }
}

/// Creates the folders and their content.
fn prepare(kind: &Kind, rules: &StartRules, data: &Path, scratch: &Path) -> std::io::Result<()> {
    fs::create_dir_all(data)?;
    fs::create_dir_all(scratch)?;
    if let (Some(users), Some(file)) = (&kind.users, &rules.users) {
        fs::write(data.join(file), users)?;
    }
    for (name, bytes) in &kind.files {
        let file = data.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, bytes)?;
    }
    Ok(())
}

/// Creates a certificate if the flags ask for one. Returns its file if the server speaks TLS.
fn make_certificate(
    rules: &StartRules,
    flags: &[String],
    places: &Values,
) -> Result<Option<PathBuf>, String> {
    let Some(CertificateRules { flag, speaks_tls, certificate, key }) = &rules.certificate else {
        return Ok(None);
    };
    if !flags.iter().any(|given| flag.is_match(given)) {
        return Ok(None);
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    let (pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
    let all = certificate.iter().map(|file| (file, &pem));
    for (file, text) in all.chain(key.iter().map(|file| (file, &key_pem))) {
        let file = places.fill(file)?;
        fs::write(&file, text).map_err(|error| format!("{file}: {error}"))?;
    }
    let speaks = flags.iter().any(|given| speaks_tls.is_match(given));
    let first = certificate.first().map(|file| places.fill(file)).transpose()?;
    Ok(first.filter(|_| speaks).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_login_a_port_and_a_path_if_it_wants() {
        let at = |url: &str| Server::at(url, &Trust::Machine);
        let server = at("http://ann:secret@example.org:8000/a/b/").unwrap();
        assert_eq!((server.base.as_str(), server.host.as_str()), ("/a/b", "example.org:8000"));
        assert_eq!(server.login.as_deref(), Some("ann:secret"));
        let server = at("http://[::1]").unwrap();
        assert_eq!((server.base.as_str(), server.host.as_str()), ("", "[::1]"));
        for wrong in
            ["example.org", "ftp://example.org/", "http://", "http://a:port/", "http://a/?x"]
        {
            assert!(at(wrong).unwrap_err().contains("is not http"), "{wrong}");
        }
    }
}
