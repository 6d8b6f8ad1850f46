//! What is outside of the plugin: the environment, keys, clusters and upstreams.

use crate::Said;
use crate::bindings::keepgate::plugin::environment;
use crate::bindings::keepgate::plugin::etcd::{Snapshot, clusters};
use crate::bindings::keepgate::plugin::secrets;
use crate::bindings::keepgate::plugin::types::{Body, Failure};
use crate::bindings::keepgate::plugin::upstreams::{self, Exchange};

/// The most bytes to sign or to seal, and those of a context.
const MESSAGE: usize = 1 << 20;
const CONTEXT: usize = 1 << 10;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Said {
    pub(crate) fn environment(&mut self) {
        self.say("settings", environment::settings());
        self.say("now", environment::now());
        self.say("random", environment::random(4).len());
        for level in [
            environment::Level::Trace,
            environment::Level::Debug,
            environment::Level::Info,
            environment::Level::Warn,
            environment::Level::Error,
        ] {
            environment::log(level, "a line", &[("field".to_owned(), "value".to_owned())]);
        }
        environment::count("every_calls_total", &["one".to_owned()], 2);
        environment::set("every_state", &["one".to_owned()], 0.5);
    }

    pub(crate) fn secrets(&mut self) -> Result<(), Failure> {
        self.say("keys", secrets::keys());
        let mac = secrets::hmac_sha256("jefe", b"what do ya want for nothing?")?;
        self.say("hmac-sha256", hex(&mac));
        self.say(
            "verify",
            secrets::verify_hmac_sha256("jefe", b"what do ya want for nothing?", &mac)?,
        );
        self.say("verify other", secrets::verify_hmac_sha256("jefe", b"another", &mac)?);
        self.say("verify short", secrets::verify_hmac_sha256("jefe", b"another", &[])?);
        self.fail("hmac-sha256 none", secrets::hmac_sha256("none", b"abc"));
        self.fail("verify none", secrets::verify_hmac_sha256("none", b"abc", &mac));
        self.fail("hmac-sha256 large", secrets::hmac_sha256("jefe", &vec![0; MESSAGE + 1]));
        let sealed = secrets::seal(b"abc", b"context")?;
        self.say("seal", (sealed.len() <= 3 + 64, sealed == secrets::seal(b"abc", b"context")?));
        self.say("open", String::from_utf8(secrets::open(&sealed, b"context")?));
        self.fail("open for another", secrets::open(&sealed, b"another"));
        let changed = [&sealed[..sealed.len() - 1], &[!sealed[sealed.len() - 1]]].concat();
        self.fail("open changed", secrets::open(&changed, b"context"));
        self.fail("seal large", secrets::seal(&vec![0; MESSAGE + 1], b""));
        self.fail("seal large context", secrets::seal(b"", &vec![0; CONTEXT + 1]));
        Ok(())
    }

    pub(crate) fn etcd(&mut self) -> Result<(), Failure> {
        self.say("clusters", clusters());
        self.fail("take none", Snapshot::take("none", &[]));
        let snapshot = Snapshot::take("main", &["https://a:2379".to_owned()])?;
        let facts = snapshot.facts();
        self.say("facts", (facts.endpoint, facts.version, facts.revision, facts.keys, facts.size));
        self.say("identifiers", (facts.cluster_id, facts.member_id).0 == facts.cluster_id);
        let data = snapshot.data()?;
        let mut length = 0;
        while let Some(bytes) = data.read(1 << 20)? {
            length += bytes.len();
        }
        self.say("data", length);
        self.say("data again", snapshot.data().is_err());
        self.say("sha256", snapshot.sha256().map(|sha256| sha256.len()));
        Ok(())
    }

    pub(crate) fn upstreams(&mut self) -> Result<(), Failure> {
        self.say("names", upstreams::names());
        let request = |method: &str, target: &str| upstreams::Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("accept".to_owned(), "text/plain".to_owned())],
        };
        let options = upstreams::Options {
            answer_within: Some(50_000),
            silent_for: Some(50_000),
            max_body: Some(1000),
            resume: true,
        };
        self.fail("send to none", Exchange::send("none", &request("GET", "/"), None, options));
        self.fail("check none", upstreams::check("none", "GET", "/"));
        self.fail("check denied", upstreams::check("main", "DELETE", "/a"));
        self.say("check", upstreams::check("main", "PUT", "/a?b=c").is_ok());
        let body = Some(Body::from_bytes(b"abc"));
        let exchange = Exchange::send("main", &request("PUT", "/a?b=c"), body, options)?;
        self.say("status", exchange.status());
        self.say("headers", exchange.headers());
        let data = exchange.body()?;
        self.say("body", data.read(1 << 20)?.map(|bytes| bytes.len()));
        self.say("body again", exchange.body().is_err());
        Ok(())
    }
}
