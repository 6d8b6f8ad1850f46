//! One step over a socket: what the data says goes over the wire as it is, and the reply comes
//! back whole. A large body is sent while the reply is read already, since a server may refuse it
//! in the middle and is right to.

use std::collections::BTreeMap;
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;

use crate::client::{Connection, Endpoint, Reply};
use crate::conformance::Failure;
use crate::conformance::case::{Case, Scalar, Step};
use crate::conformance::fill::{Body, Values};
use crate::connection::Writer;

/// Bodies up to this size fit into the sockets' buffers.
const AT_ONCE: usize = 64 * 1024;

/// The connections of a case.
pub struct Exchange<'a> {
    endpoint: &'a Endpoint,
    /// For steps that say nothing else: `NAME:PASSWORD`.
    login: Option<String>,
    open: BTreeMap<String, Open>,
}

struct Open {
    connection: Connection,
    /// What `resume` is to send.
    rest: Option<Rest>,
}

struct Rest {
    method: String,
    sending: Sending,
}

impl Rest {
    /// Requests that were sent in a row have been sent: only replies are left.
    fn nothing() -> Self {
        let body = Arc::new(Body { bytes: Vec::new(), id: String::new() });
        let sending = Sending { body, from: 0, to: 0, chunks: None, ends: false };
        Self { method: "GET".to_owned(), sending }
    }
}

/// A body, or what is left of it to send.
struct Sending {
    body: Arc<Body>,
    from: usize,
    to: usize,
    chunks: Option<usize>,
    /// The last chunk comes after it.
    ends: bool,
}

/// The numbers of a step, filled in.
#[derive(Clone, Copy)]
struct Numbers {
    chunks: Option<usize>,
    length: Option<u64>,
    cut: Option<usize>,
    pause: Option<usize>,
}

impl Numbers {
    fn of(step: &Step, values: &Values) -> Result<Self, String> {
        let size = |number: &Option<Scalar>| {
            let number = values.number(number.as_ref())?;
            let number = number.map(usize::try_from).transpose();
            number.map_err(|error| error.to_string())
        };
        Ok(Self {
            chunks: size(&step.chunks)?,
            length: values.number(step.length.as_ref())?,
            cut: size(&step.cut)?,
            pause: size(&step.pause)?,
        })
    }
}

/// What came of a step.
#[derive(Debug)]
pub enum Outcome {
    /// A reply, and whether the server closed the connection after it, where that was asked.
    Reply(Reply, bool),
    /// The connection ended before there was one.
    Closed(String),
    /// The server neither replied nor closed the connection, for as long as anybody waits.
    Silence,
    /// The step waits for none.
    Nothing,
}

impl<'a> Exchange<'a> {
    /// At this server.
    pub fn new(endpoint: &'a Endpoint, case: &Case, login: Option<&str>) -> Self {
        let login = case.login.as_deref().or(login).map(str::to_owned);
        Self { endpoint, login, open: BTreeMap::new() }
    }

    /// Does what a step says of the wire. The failure is one of the data, or of the connection.
    pub fn step(&mut self, step: &Step, values: &Values) -> Result<Outcome, Failure> {
        let data = |error: String| Failure::new("data that makes sense", error);
        let numbers = Numbers::of(step, values).map_err(data)?;
        let name = step.on.clone().unwrap_or_default();
        if step.close {
            self.open.remove(&name);
            return Ok(Outcome::Nothing);
        }
        let mut open = match self.open.remove(&name).filter(|_| step.on.is_some()) {
            Some(open) => open,
            None => Open { connection: self.connect()?, rest: None },
        };
        let (method, sending, expects) = if step.resume {
            let rest = open.rest.take().unwrap_or_else(Rest::nothing);
            (rest.method, rest.sending, false)
        } else {
            let (method, head) = self.head(step, numbers, values).map_err(data)?;
            let body = step.body.as_deref().map(|name| values.body(name));
            let body = body.transpose().map_err(data)?;
            // The server may have heard enough; its reply says what of.
            let _ = open.connection.write(head.as_bytes());
            let body =
                body.unwrap_or_else(|| Arc::new(Body { bytes: Vec::new(), id: String::new() }));
            let to = body.bytes.len();
            let ends = numbers.chunks.is_some();
            let sending = Sending { body, from: 0, to, chunks: numbers.chunks, ends };
            (method, sending, step.interim.is_some())
        };
        if expects && let Some(reply) = interim(&mut open.connection, step, &method)? {
            return Ok(Outcome::Reply(reply, false));
        }
        if let Some(pause) = numbers.pause {
            let (now, rest) = sending.split(pause);
            open.connection
                .write(&now.bytes())
                .map_err(|error| Failure::new("the beginning is taken", error.to_string()))?;
            open.rest = Some(Rest { method, sending: rest });
            self.open.insert(name, open);
            return Ok(Outcome::Nothing);
        }
        let outcome = send_and_read(&mut open.connection, &method, sending, step, numbers.cut);
        if step.on.is_some() && !step.closed {
            self.open.insert(name, open);
        }
        Ok(outcome)
    }

    /// One request of `given`.
    pub fn simple(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, String> {
        let mut connection = self.connect().map_err(|failure| failure.got)?;
        let headers = self.login.as_deref().map(authorization);
        let headers: Vec<_> =
            headers.iter().map(|value| ("authorization", value.as_str())).collect();
        connection.send(method, path, &headers, body).map_err(|error| error.to_string())
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let connected = self.endpoint.try_connect();
        connected.map_err(|error| Failure::new("a connection", error.to_string()))
    }

    fn head(
        &self,
        step: &Step,
        numbers: Numbers,
        values: &Values,
    ) -> Result<(String, String), String> {
        if let Some(raw) = &step.raw {
            let raw = values.fill(raw)?;
            return Ok((raw.split(' ').next().unwrap_or_default().to_owned(), raw));
        }
        let send = step.send.as_deref().ok_or("a step has neither `send` nor `raw`")?;
        let send = values.fill(send)?;
        let (method, path) = send.split_once(' ').ok_or("`send` is `METHOD PATH`")?;
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let mut header = |name: &str, value: &str| head += &format!("{name}: {value}\r\n");
        header("host", "localhost");
        let login = step.login.as_deref().or(self.login.as_deref());
        if let Some(login) = login.filter(|login| !login.is_empty()) {
            header("authorization", &authorization(&values.fill(login)?));
        }
        for (name, all) in &step.headers {
            for value in all.list() {
                header(&values.fill(name)?, &values.fill(value)?);
            }
        }
        let length = match (&step.body, numbers.length) {
            (_, Some(length)) => Some(length),
            (_, None) if numbers.chunks.is_some() => None,
            (Some(name), None) => Some(values.body(name)?.bytes.len() as u64),
            (None, None) => (method == "POST").then_some(0),
        };
        if let Some(length) = length {
            header("content-length", &length.to_string());
        }
        if numbers.chunks.is_some() {
            header("transfer-encoding", "chunked");
        }
        if step.interim.is_some() {
            header("expect", "100-continue");
        }
        Ok((method.to_owned(), format!("{head}\r\n")))
    }
}

fn send_and_read(
    connection: &mut Connection,
    method: &str,
    mut sending: Sending,
    step: &Step,
    cut: Option<usize>,
) -> Outcome {
    if let Some(cut) = cut {
        sending.to = sending.to.min(cut);
        sending.ends = false;
    }
    if step.gone {
        // The server may have refused it already, which is no matter to who does not wait.
        let _ = connection.write(&sending.bytes());
        connection.abandon();
        return Outcome::Nothing;
    }
    let reply = match connection.writer().filter(|_| sending.to - sending.from > AT_ONCE) {
        Some(writer) => send_while_reading(connection, writer, sending, method, cut.is_some()),
        None => {
            let _ = connection.write(&sending.bytes());
            if cut.is_some() {
                connection.finish_writing();
            }
            connection.reply(method)
        }
    };
    match reply {
        Ok(reply) => {
            let closed = step.closed && connection.is_closed_by_server();
            Outcome::Reply(reply, closed)
        }
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => Outcome::Silence,
        Err(error) => Outcome::Closed(error.to_string()),
    }
}

impl Sending {
    fn split(self, at: usize) -> (Self, Self) {
        let at = (self.from + at).min(self.to);
        let now = Self { body: self.body.clone(), to: at, ends: false, ..self };
        (now, Self { from: at, ..self })
    }

    /// As they go over the wire.
    fn bytes(&self) -> Vec<u8> {
        let plain = &self.body.bytes[self.from..self.to];
        let Some(size) = self.chunks else { return plain.to_vec() };
        let mut bytes = Vec::with_capacity(plain.len() + 64);
        for piece in plain.chunks(size.max(1)) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.ends {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        bytes
    }
}

fn authorization(login: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// Waits for `100 Continue`, or for the final reply where that is right.
fn interim(
    connection: &mut Connection,
    step: &Step,
    method: &str,
) -> Result<Option<Reply>, Failure> {
    let wanted = step.interim == Some(true);
    if !wanted {
        // Whatever comes first is the reply: a 100 would be read as one, and is shown so.
        let reply = connection.read_head();
        let reply = reply.map_err(|error| Failure::new("a reply", error.to_string()))?;
        return Ok(Some(reply));
    }
    let head = connection.read_head();
    let head = head.map_err(|error| Failure::new("100 Continue", error.to_string()))?;
    if head.status == 100 {
        return Ok(None);
    }
    Err(Failure::new(format!("100 Continue for the {method}"), format!("{} at once", head.status)))
}

fn send_while_reading(
    connection: &mut Connection,
    mut writer: Writer,
    sending: Sending,
    method: &str,
    cut: bool,
) -> io::Result<Reply> {
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        scope.spawn(move || {
            let _ = writer.write_all(&sending.bytes());
            if cut {
                writer.finish_writing();
            }
            let _ = done.send(());
        });
        let reply = connection.reply(method);
        // A server that goes on reading lets the writer finish; one that does not is left.
        if finished.recv_timeout(Duration::from_secs(5)).is_err() {
            connection.abandon();
        }
        reply
    })
}
