//! databacker with a stand-in for its client: configurations that only their instance can read, dumps of a real MariaDB
//! whose runs are listed, log lines of old releases, tokens, and kills in the middle.

mod configurations;
mod full;
mod hooks;
mod killed;
mod lines;
mod pages;
mod runs;
mod tokens;

use std::fs;

use base64::Engine as _;
use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::databacker::config::Remote;
use keepgate_tests::databacker::pins::fingerprint;
use keepgate_tests::databacker::seed::Seed;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

/// Where the mount is.
const MOUNT: &str = "/databacker";
/// What tokens call it.
const URL: &str = "https://backup.example.org/databacker";

/// A configuration, and the fingerprints that clients may pin.
struct Mounted {
    setup: Setup,
    leaf: String,
    authority: String,
}

/// A mount with an administrator, `ann`, and one who only looks, `bob`. `grants` are further lines of the mount.
fn mounted(grants: &str, tables: &str) -> Mounted {
    let setup = Setup::new()
        .tls()
        .user("ann", "annspassword")
        .user("bob", "bobspassword")
        .table("[auth.keys]\nany_key = true")
        .table(tables)
        .accepting_any(&["users", "keys", "plugin"]);
    let (leaf, authority) = certify(&setup);
    let settings = format!(
        "secrets.seal = {{ name = \"databacker\", keys = [\"seal.key\"] }}\n{grants}\n\
         [mount.settings]\nurl = \"{URL}\"\ncertificates = [\"{authority}\"]\n\
         administrators = [{{ name = \"ann\" }}, {{ name = \"bob\", read_only = true }}]\n"
    );
    let setup = setup.mount(MOUNT, "databacker", &settings);
    let key = keepgate_tests::databacker::random::<32>();
    fs::write(setup.path("seal.key"), base64::prelude::BASE64_STANDARD.encode(key)).unwrap();
    setup.install("databacker", &tools::plugin("databacker"));
    Mounted { setup, leaf, authority }
}

/// A certificate as the clients want it, with that of its authority: addresses are written as DNS names too. Returns the
/// fingerprints of both.
fn certify(setup: &Setup) -> (String, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "the tests' authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_made = authority.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "gateway");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let name = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = SanType::IpAddress("127.0.0.1".parse().unwrap());
    leaf.subject_alt_names = vec![name("localhost"), address, name("127.0.0.1")];
    let made = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    fs::write(setup.certificate(), made.pem() + &authority_made.pem()).unwrap();
    fs::write(setup.path("key.pem"), key.serialize_pem()).unwrap();
    (fingerprint(made.der()), fingerprint(authority_made.der()))
}

/// An administrator.
struct Admin(Endpoint);

impl Admin {
    fn ann(gateway: &Gateway) -> Self {
        Self(gateway.as_user("ann", "annspassword"))
    }

    /// A request for a path below the mount.
    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        let path = format!("{MOUNT}{path}");
        self.0.send(method, &path, &[("content-type", "application/json")], body.as_bytes())
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.send("POST", path, &body.to_string());
        assert_eq!(reply.status, 201, "{path}: {}", reply.text());
        reply.json()
    }

    /// Registers an instance with new keys.
    #[track_caller]
    fn register(&self, mounted: &Mounted) -> Instance {
        let seed = Seed::random();
        let made = self.post(
            "/admin/instances",
            &json!({
                "publicKey": seed.public_key(),
                "encryptionPublicKey": seed.encryption_public_key(),
                "name": "of a test",
            }),
        );
        let id = made["id"].as_str().unwrap().to_owned();
        Instance { id, seed, pin: mounted.authority.clone() }
    }

    /// Gives an instance a configuration; the status must be this one.
    #[track_caller]
    fn configure(&self, instance: &Instance, query: &str, document: &Value, status: u16) {
        let path = format!("/admin/instances/{}/config{query}", instance.id);
        let reply = self.send("PUT", &path, &document.to_string());
        assert_eq!(reply.status, status, "{}", reply.text());
    }

    /// The runs of an instance, newest first.
    #[track_caller]
    fn runs(&self, instance: &Instance) -> Vec<Value> {
        let runs = self.get(&format!("/admin/instances/{}/runs", instance.id));
        runs.as_array().unwrap().clone()
    }
}

/// A registered instance.
#[derive(Clone)]
struct Instance {
    id: String,
    seed: Seed,
    pin: String,
}

impl Instance {
    /// What its configuration has for a path below the mount, in which `{}` is the instance.
    fn remote(&self, port: u16, path: &str) -> Remote {
        Remote {
            url: format!("https://127.0.0.1:{port}{MOUNT}{}", path.replace("{}", &self.id)),
            certificates: vec![self.pin.clone()],
            credentials: self.seed.credentials(),
        }
    }

    fn config(&self, port: u16) -> Remote {
        self.remote(port, "/engines/config/{}")
    }

    fn traces(&self, port: u16) -> Remote {
        self.remote(port, "/engines/telemetry/{}/traces")
    }

    fn logs(&self, port: u16) -> Remote {
        self.remote(port, "/engines/telemetry/{}/log")
    }
}

/// The path below the mount of a `Location`.
#[track_caller]
fn below_mount(reply: &Reply) -> String {
    let location = reply.header("location").unwrap();
    let (_, path) = location.split_once(MOUNT).unwrap();
    path.to_owned()
}

/// Keys of a seed and of ECDSA, each registered once; what is wrong with others is said. Who is no administrator, or may
/// only look, registers nobody.
#[test]
fn instances_are_registered_with_their_own_keys() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let admin = Admin::ann(&gateway);
    let seed = Seed::random();
    let body = json!({
        "publicKey": seed.public_key(),
        "encryptionPublicKey": seed.encryption_public_key(),
    });
    let made = admin.post("/admin/instances", &body);
    assert_eq!(made["certificates"], json!([mounted.authority]));
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["configUrl"], format!("{URL}/engines/config/{id}"));
    assert_eq!(made["keys"][0]["algorithm"], "Ed25519");

    let again = admin.send("POST", "/admin/instances", &body.to_string());
    assert_eq!(again.status, 409, "{}", again.text());
    let private =
        json!({"publicKey": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"});
    let refused = admin.send("POST", "/admin/instances", &private.to_string());
    assert!(refused.status == 400 && refused.text().contains("private key"), "{}", refused.text());

    let other = json!({"publicKey": Seed::random().public_key()}).to_string();
    let bob = Admin(gateway.as_user("bob", "bobspassword"));
    assert_eq!(bob.send("POST", "/admin/instances", &other).status, 403);
    let nobody = Admin(gateway.endpoint());
    assert_eq!(nobody.send("POST", "/admin/instances", &other).status, 401);
    let wrong = Admin(gateway.as_user("ann", "wrong"));
    assert_eq!(wrong.send("POST", "/admin/instances", &other).status, 401);
    assert_eq!(admin.get("/admin/instances").as_array().unwrap().len(), 1);
    gateway.stop();
}
