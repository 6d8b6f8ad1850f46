//! Finds and starts the servers, all on the same folder.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;

use crate::client::Target;

/// The time limit for a server to be ready.
const READY: Duration = Duration::from_secs(20);

/// A server to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Keepgate,
    /// Another build of Keepgate, to see the effect of a change.
    Before,
    RestServer,
    Rclone,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Keepgate => "keepgate",
            Self::Before => "before",
            Self::RestServer => "rest-server",
            Self::Rclone => "rclone",
        })
    }
}

/// The program of a server.
#[derive(Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) peer: Peer,
    #[serde(skip)]
    path: PathBuf,
    /// The output of `--version`.
    pub(crate) version: String,
}

/// Shared by all servers.
#[derive(Debug)]
pub(crate) struct Site {
    /// The folder to serve.
    pub(crate) root: PathBuf,
    /// A folder for files of single servers.
    pub(crate) scratch: PathBuf,
    /// The folder of Keepgate's plugins.
    pub(crate) plugins: PathBuf,
    pub(crate) tls: Tls,
}

/// The certificate of all servers.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<rustls::ClientConfig>,
}

impl Program {
    /// Keepgate, as `cargo xtask bench` names it, or from the folder of this program.
    pub(crate) fn keepgate() -> Result<Self> {
        let path = match std::env::var_os("KEEPGATE_BIN") {
            Some(path) => path.into(),
            None => std::env::current_exe()?.with_file_name("keepgate"),
        };
        Self::of(Peer::Keepgate, path).context("run this with `cargo xtask bench`")
    }

    /// Another build of Keepgate.
    pub(crate) fn before(path: &Path) -> Result<Self> {
        Self::of(Peer::Before, path.to_owned())
    }

    /// The peers, or the reasons why they cannot be measured.
    pub(crate) fn peers() -> Vec<Result<Self>> {
        let tools = std::env::var_os("KEEPGATE_TOOLS").map(PathBuf::from);
        let found = |name: &str| {
            let mut folders: Vec<_> = tools.iter().cloned().collect();
            folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
            let mut paths = folders.into_iter().map(|folder| folder.join(name));
            paths.find(|path| path.is_file())
        };
        let of = |peer, name| {
            let path = found(name).ok_or_else(|| anyhow!("{name} is not installed"))?;
            Self::of(peer, path)
        };
        vec![of(Peer::RestServer, "rest-server"), of(Peer::Rclone, "rclone")]
    }

    fn of(peer: Peer, path: PathBuf) -> Result<Self> {
        let flag = if peer == Peer::Rclone { "version" } else { "--version" };
        let output = Command::new(&path).arg(flag).output();
        let output = output.with_context(|| format!("running {}", path.display()))?;
        let version = String::from_utf8_lossy(&output.stdout);
        let version = version.lines().next().unwrap_or_default().to_owned();
        Ok(Self { peer, path, version })
    }

    /// Starts the server on the root of the site, as its users would, without authentication.
    pub(crate) fn serve(&self, site: &Site, tls: bool) -> Result<Server> {
        let mut command = Command::new(&self.path);
        let root = &site.root;
        match self.peer {
            Peer::Keepgate | Peer::Before if tls => {
                let settings = "[store.main]\npath = STORE\n[[mount]]\npath = \"/\"\n\
                    plugin = \"restic\"\nauth = [\"none\"]\nstores = { main = \"main\" }\nwarm = true\n";
                return self.keepgate_with(site, &site.plugins, settings, true);
            }
            Peer::Keepgate | Peer::Before => {
                command.arg("rest-server").env("KEEPGATE_PLUGIN_DIR", &site.plugins);
                command.args(["--no-auth", "--listen", "127.0.0.1:0", "--path"]).arg(root);
            }
            Peer::RestServer => {
                command.args(["--no-auth", "--listen", "127.0.0.1:0", "--path"]).arg(root);
                if tls {
                    command.arg("--tls").arg("--tls-cert").arg(&site.tls.certificate);
                    command.arg("--tls-key").arg(&site.tls.key);
                }
            }
            Peer::Rclone => {
                command.args(["serve", "restic", "--addr", "127.0.0.1:0"]);
                if tls {
                    command.arg("--cert").arg(&site.tls.certificate);
                    command.arg("--key").arg(&site.tls.key);
                }
                command.arg(root);
            }
        }
        let (process, line) =
            start(&mut command, &["start server on ", "Serving restic REST API"])?;
        let address = line.rsplit(' ').next().unwrap_or_default();
        let address = address.trim_start_matches("http://").trim_start_matches("https://");
        let address = address.trim_end_matches('/').parse();
        let address = address.with_context(|| format!("no address in {line:?}"))?;
        Ok(Server { peer: self.peer, process, target: site.target(address, tls) })
    }

    /// Starts Keepgate with these stores and mounts; `STORE` stands for the root.
    pub(crate) fn keepgate_with(
        &self,
        site: &Site,
        plugins: &Path,
        settings: &str,
        tls: bool,
    ) -> Result<Server> {
        let folder = tempfile::tempdir_in(&site.scratch)?.keep();
        let address = free_port()?;
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let mut config = format!(
            "data_dir = {}\nplugin_dir = {}\n[[listener]]\naddress = \"{address}\"\n",
            quoted(&folder),
            quoted(plugins)
        );
        if tls {
            let (certificate, key) = (quoted(&site.tls.certificate), quoted(&site.tls.key));
            config += &format!("tls = {{ certificate = {certificate}, key = {key} }}\n");
        }
        config += &settings.replace("STORE", &quoted(&site.root));
        let file = folder.join("keepgate.toml");
        std::fs::write(&file, config)?;
        let mut command = Command::new(&self.path);
        command.arg("serve").arg("--config").arg(&file).env_remove("KEEPGATE_PLUGIN_DIR");
        command.env("KEEPGATE_LOG", "info");
        let (process, _) = start(&mut command, &["generation"])?;
        Ok(Server { peer: self.peer, process, target: site.target(address, tls) })
    }
}

impl Site {
    /// Creates folders and a certificate below `folder`.
    pub(crate) fn make(folder: &Path, plugins: PathBuf) -> Result<Self> {
        let (root, scratch) = (folder.join("root"), folder.join("scratch"));
        std::fs::create_dir_all(&root)?;
        std::fs::create_dir_all(&scratch)?;
        let tls = Tls::make(&scratch)?;
        Ok(Self { root, scratch, plugins, tls })
    }

    fn target(&self, address: SocketAddr, tls: bool) -> Target {
        Target { address, tls: tls.then(|| self.tls.client.clone()) }
    }
}

impl Tls {
    fn make(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { certificate, key, client: Arc::new(client) })
    }
}

/// A server that runs until this is dropped.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    process: Process,
    pub(crate) target: Target,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and returns the line of its standard error that contains one of these texts.
fn start(command: &mut Command, markers: &'static [&'static str]) -> Result<(Process, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let name = PathBuf::from(command.get_program());
    let mut child = command.spawn().with_context(|| format!("starting {}", name.display()))?;
    let stderr = child.stderr.take().context("no pipe to the server")?;
    let process = Process(child);
    let (sender, lines) = mpsc::channel();
    // Continues to read, since a full pipe would stop the server.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(READY) {
            Ok(line) if markers.iter().any(|marker| line.contains(marker)) => {
                return Ok((process, line));
            }
            Ok(line) => said.push(line),
            Err(_) => bail!("{} is not ready; its output:\n{}", name.display(), said.join("\n")),
        }
    }
}

pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
