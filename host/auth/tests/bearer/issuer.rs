//! An issuer on loopback, the time, and mounts that accept its tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use keepgate_auth::bearer::{Algorithms, Clock, KeySource, Keys, Now, Rules};
use keepgate_auth::{Access, Client, Decision, Issuer, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the tests take place, in seconds since 1970.
pub(crate) const TODAY: u64 = 1_800_000_000;

/// A clock that only tests advance.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Clock::new(move || {
            let passed = seconds.load(Ordering::SeqCst);
            Now { unix: TODAY + passed, running: Duration::from_secs(passed) }
        })
    }
}

/// What the server answers at a path: the status with headers, and the body.
type Answers = BTreeMap<String, (String, String)>;

/// A server whose answers tests set; it closes connections unanswered for paths without one.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, asked) =
            (Arc::<Mutex<Answers>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (known, count) = (Arc::clone(&answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, &known, &count).await;
            }
        });
        Self { address, answers, asked, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers requests for a path from now on. `status` may have headers after it, each in a line.
    pub(crate) fn publish(&self, path: &str, status: &str, body: impl Into<String>) {
        let answer = (status.to_owned(), body.into());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Answers nothing any more.
    pub(crate) fn go_away(&self) {
        self.answers.lock().unwrap().clear();
    }

    /// The paths that were asked for since this was last called.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn answer(mut stream: TcpStream, answers: &Mutex<Answers>, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let answer = answers.lock().unwrap().get(&path).cloned();
    asked.lock().unwrap().push(path);
    if let Some((status, body)) = answer {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}

pub(crate) fn rules() -> Rules {
    Rules {
        issuer: "https://login.example.org".to_owned(),
        audience: vec!["keepgate".to_owned(), "backup".to_owned()],
        name: "preferred_username".to_owned(),
        claims: Vec::new(),
        require: Vec::new(),
        leeway: Duration::from_secs(60),
        algorithms: Algorithms::default(),
    }
}

/// The claims of a valid token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://login.example.org",
        "sub": "f1d2",
        "aud": "keepgate",
        "exp": TODAY + 300,
        "nbf": TODAY,
        "preferred_username": "ann",
    })
}

/// A mount with one issuer.
pub(crate) struct Mount {
    pub(crate) access: Access,
    pub(crate) keys: Arc<Keys>,
}

impl Mount {
    pub(crate) fn new(source: KeySource, rules: Rules, time: &Time) -> Self {
        let keys = Keys::open("company", source, time.clock()).unwrap();
        let issuer = Issuer::new(rules, Arc::clone(&keys), time.clock());
        Self { access: Access::Methods(vec![Method::Bearer(Arc::new(issuer))]), keys }
    }

    pub(crate) async fn admit(&self, token: &str) -> Decision {
        admit(&self.access, token).await
    }

    /// The name of the user; the decision, if nobody is admitted.
    pub(crate) async fn user(&self, token: &str) -> Result<String, Decision> {
        match self.admit(token).await {
            Decision::Admitted(Some(principal)) => Ok(principal.name),
            other => Err(other),
        }
    }
}

/// The headers of a request with this token.
pub(crate) fn bearing(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

pub(crate) async fn admit(access: &Access, token: &str) -> Decision {
    let headers = bearing(token);
    access.admit(Client { headers: &headers, address: None, certificate: None }).await
}

/// Why a token was refused.
pub(crate) fn reason(decision: Decision) -> String {
    match decision {
        Decision::InvalidToken { why, .. } => why.into_owned(),
        Decision::ForeignToken { issuer } => format!("of {issuer}"),
        Decision::Denied { why, .. } => format!("denied: {why}"),
        other => panic!("{other:?}"),
    }
}
