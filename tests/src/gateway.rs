//! A configuration in a folder of its own, and the gateway that serves it. The system assigns the
//! ports; the admin pages, on a Unix socket, say which.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Endpoint, Reply, Trust};
use crate::program::{LONG, Program, keepgate};
use crate::tools;

/// How long a gateway may take to give back memory that it has freed. It looks for some every ten seconds, and more rarely,
/// once a minute at least, where it found little.
const GIVEN_BACK: Duration = Duration::from_secs(90);

/// A configuration, with everything that it refers to, in a temporary folder.
#[derive(Clone, Debug)]
pub struct Setup {
    folder: Arc<TempDir>,
    tls: bool,
    users: bool,
    /// The methods of mounts that are added from now on, as the configuration has them.
    auth: String,
    /// Where the store `main` is, as lines of the configuration, and as a folder.
    place: String,
    store: PathBuf,
    tables: String,
    mounts: String,
    environment: Vec<(String, String)>,
    /// Whether a gateway serves only when all plugins are compiled.
    patient: bool,
}

impl Setup {
    /// Plain HTTP, a store, restic's component in the plugin folder, and no mount yet.
    pub fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = folder.path().join("store");
        let setup = Self {
            folder,
            tls: false,
            users: false,
            auth: "\"none\"".to_owned(),
            place: "path = \"store\"".to_owned(),
            store,
            tables: String::new(),
            mounts: String::new(),
            environment: Vec::new(),
            patient: true,
        };
        for name in ["plugins", "state", "store"] {
            fs::create_dir(setup.path(name)).unwrap();
        }
        setup.install("restic", &tools::plugin("restic"));
        setup
    }

    /// With restic at the root and no authentication, which is what most tests need.
    pub fn restic() -> Self {
        Self::new().mount("/", "restic", "")
    }

    /// Adds TLS.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self.renew_certificate();
        self
    }

    /// Adds a user. Mounts added afterwards require authentication.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users = true;
        self.set_password(name, password);
        self.accepting("users")
    }

    /// Makes mounts added afterwards accept this method, which [`table`](Self::table) adds.
    #[must_use]
    pub fn accepting(self, method: &str) -> Self {
        self.accepting_any(&[method])
    }

    /// The same for several methods.
    #[must_use]
    pub fn accepting_any(mut self, methods: &[&str]) -> Self {
        let methods: Vec<String> = methods.iter().map(|method| format!("\"{method}\"")).collect();
        self.auth = methods.join(", ");
        self
    }

    /// Moves the store `main`: lines of its table instead of `path = "store"`, and where its blobs are files.
    #[must_use]
    pub fn store_at(mut self, lines: &str, folder: &Path) -> Self {
        lines.clone_into(&mut self.place);
        folder.clone_into(&mut self.store);
        self
    }

    /// Sets an environment variable of the gateway.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does not wait for plugins that are still being compiled when the gateway begins to serve.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.patient = false;
        self
    }

    /// Adds tables, such as `[timeouts]`.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        self.tables += &format!("{text}\n");
        self
    }

    /// Adds a mount; `further` is added to its table.
    #[must_use]
    pub fn mount(mut self, path: &str, plugin: &str, further: &str) -> Self {
        let auth = &self.auth;
        self.mounts += &format!(
            "\n[[mount]]\npath = \"{path}\"\nplugin = \"{plugin}\"\nauth = [{auth}]\n\
             stores = {{ main = \"main\" }}\n{further}\n"
        );
        self
    }

    /// A path in the setup's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration's path.
    pub fn config(&self) -> PathBuf {
        self.path("keepgate.toml")
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// The certificate's path.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// The path of a plugin of this name.
    pub fn plugin(&self, name: &str) -> PathBuf {
        self.path("plugins").join(format!("{name}.wasm"))
    }

    /// Puts a component into the plugin folder as careful tools do: by renaming a complete file.
    pub fn install(&self, name: &str, component: &[u8]) {
        let hidden = self.path("plugins").join(format!(".{name}.new"));
        fs::write(&hidden, component).unwrap();
        fs::rename(hidden, self.plugin(name)).unwrap();
    }

    /// Adds a user or changes a password with `keepgate user`.
    pub fn set_password(&self, name: &str, password: &str) {
        let file = self.path("htpasswd");
        let command = keepgate(&["user", "--file", file.to_str().unwrap(), "add", name]);
        tools::run_with(command, password.as_bytes(), LONG).success();
    }

    /// Generates a new self-signed certificate for `localhost` and `127.0.0.1`.
    pub fn renew_certificate(&self) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(self.certificate(), made.cert.pem()).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    /// Writes the configuration.
    pub fn write(&self) {
        let tls = "tls = { certificate = \"certificate.pem\", key = \"key.pem\" }\n";
        let users = "[auth.users]\nhtpasswd = \"htpasswd\"\n";
        let text = format!(
            "data_dir = \"state\"\nplugin_dir = \"plugins\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n{}\n\
             [admin]\naddress = \"unix:{}\"\n\n\
             {}{}\n[store.main]\n{}\n{}",
            if self.tls { tls } else { "" },
            self.path("admin.sock").display(),
            if self.users { users } else { "" },
            self.tables,
            self.place,
            self.mounts,
        );
        fs::write(self.config(), text).unwrap();
    }

    /// Edits the written configuration.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config()).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text, "the edit changes nothing");
        fs::write(self.config(), changed).unwrap();
    }

    /// The command that serves it; writes the configuration if there is none yet.
    pub fn command(&self) -> Command {
        if !self.config().exists() {
            self.write();
        }
        let mut command = keepgate(&["serve", "--config"]);
        command.arg(self.config());
        self.equip(command)
    }

    /// The command that checks it and connects to what it names.
    pub fn check_command(&self) -> Command {
        let mut command = keepgate(&["check", "--connect", "--config"]);
        command.arg(self.config());
        self.equip(command)
    }

    /// Gives a command the environment of this gateway.
    pub fn equip(&self, mut command: Command) -> Command {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a gateway and returns once it serves.
    #[track_caller]
    pub fn start(&self) -> Gateway {
        self.start_by(self.command())
    }

    /// The same with a command derived from [`command`](Self::command).
    #[track_caller]
    pub fn start_by(&self, command: Command) -> Gateway {
        let program = Program::start(command);
        program.stderr.wait_for(0, &["serving", "generation="]);
        let admin = Endpoint::unix(&self.path("admin.sock"));
        let end = Instant::now() + LONG;
        let status = loop {
            let status = admin.get("/status").json();
            if !self.patient || status["loading"].as_array().is_none_or(Vec::is_empty) {
                break status;
            }
            assert!(Instant::now() < end, "plugins are still being compiled: {status}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let address = status["listeners"][0].as_str().unwrap().parse().unwrap();
        let mut endpoint = Endpoint::tcp(address);
        if self.tls {
            endpoint = endpoint.tls(&Trust::file(&self.certificate()));
        }
        Gateway { program, admin, endpoint, setup: self.clone() }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// A running gateway. It is killed when this is dropped, which also checks that nothing in it has
/// panicked.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub program: Program,
    /// The admin pages.
    pub admin: Endpoint,
    endpoint: Endpoint,
    setup: Setup,
}

impl Gateway {
    /// Where clients reach it, without credentials.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Where clients reach it, as this user.
    pub fn as_user(&self, name: &str, password: &str) -> Endpoint {
        self.endpoint.clone().credentials(name, password)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// The repository's address for restic, with `user:password@` or nothing in front of the host.
    pub fn repository(&self, login: &str, path: &str) -> String {
        let scheme = if self.setup.tls { "https" } else { "http" };
        format!("rest:{scheme}://{login}localhost:{}{path}", self.port())
    }

    /// The status page.
    pub fn status(&self) -> Value {
        self.admin.get("/status").json()
    }

    /// A metric, by its name with labels in alphabetical order; 0 if it does not exist.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.admin.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Makes it reload its files and waits until it has. Returns what it logged about that.
    #[track_caller]
    pub fn reload(&self) -> String {
        let log = &self.program.stderr;
        let before = log.count();
        self.program.signal(Signal::HUP);
        // An earlier reload may still be about to log that it is serving.
        let (begun, _) = log.wait_for(before, &["reloading certificates, users and configuration"]);
        let taken: &[&str] = &["serving", "generation="];
        log.wait_for_either(begun, &[taken, &["configuration rejected"]]);
        log.since(begun)
    }

    /// Asks it to exit, and waits until it has. Panics if it fails.
    #[track_caller]
    pub fn stop(mut self) {
        self.program.signal(Signal::TERM);
        let status = self.program.wait(LONG);
        assert!(status.success(), "{status}:\n{}", self.program.stderr.text());
    }

    /// Checks that it still responds.
    #[track_caller]
    pub fn assert_alive(&self) {
        let Reply { status, .. } = self.admin.get("/live");
        assert_eq!(status, 200);
    }

    /// Waits until a condition is true. For what no log line announces.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !condition(self) {
            assert!(Instant::now() < end, "did not happen: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its resident memory in bytes, as soon as that is less than `enough`, and in any case after a minute and a half. What it
    /// has freed, a gateway at rest gives back in rounds, so a look at a random moment says little.
    pub fn memory_at_rest(&self, enough: u64) -> u64 {
        let end = Instant::now() + GIVEN_BACK;
        loop {
            let memory = self.program.memory("VmRSS");
            if memory < enough || Instant::now() > end {
                return memory;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let said = self.program.stderr.text();
        // A plugin's panic is logged in the plugin's own words, with the target `plugin`.
        let is_ours = |line: &&str| line.contains("panicked at") && !line.contains(" plugin: ");
        let panicked = said.lines().find(is_ours);
        assert!(panicked.is_none(), "the gateway panicked:\n{said}");
    }
}

/// A path as text, for `keepgate`'s arguments.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
