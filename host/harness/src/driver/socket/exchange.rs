//! One request over a socket, sent byte for byte as the case says, and its whole reply. A large body is sent
//! while the reply is being read, because a server may refuse it in the middle.

use std::collections::BTreeMap;
use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, WouldBlock};
use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;

use super::connection::{Connection, Reply, Writer};
use super::endpoint::Endpoint;
use crate::case::{Number, Short, Step, Values};
use crate::compare::Known;
use crate::driver::Received;
use crate::fixture::Response;

/// Bodies up to this size fit into the sockets' buffers.
const AT_ONCE: usize = 64 * 1024;
/// The chunk size for bodies without a length, if the case does not set one.
const CHUNK: usize = 64 * 1024;
/// How long a body may still be written after its reply has arrived.
const WRITING: Duration = Duration::from_secs(5);

/// The connections of a case, by name.
pub(super) type Connections = BTreeMap<String, Open>;

/// A connection, and what is left for `resume` to send.
#[derive(Debug)]
pub(super) struct Open {
    connection: Connection,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    method: String,
    sending: Sending,
}

/// A body, or the rest of it.
#[derive(Clone, Debug, Default)]
struct Sending {
    body: Vec<u8>,
    from: usize,
    to: usize,
    chunks: Option<usize>,
    /// Whether the last chunk follows it.
    ends: bool,
}

/// A request with its placeholders filled in.
#[derive(Debug)]
pub(super) struct Request {
    method: String,
    head: String,
    sending: Sending,
    cut: Option<usize>,
    leaves: Option<usize>,
    pause: Option<usize>,
    /// The request as it is shown in reports.
    pub(super) shown: String,
}

/// The client: where it connects, and what all its requests have in common.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) host: &'a str,
    /// The path of the mount.
    pub(super) base: String,
    /// The `NAME:PASSWORD` of steps that have none.
    pub(super) login: Option<String>,
}

impl Client<'_> {
    pub(super) fn request(&self, step: &Step, known: Known<'_>) -> Result<Request, String> {
        let Known { folder, values } = known;
        let size =
            |number: &Option<Number>| number.as_ref().map(|number| number.size(values)).transpose();
        let mut chunks = size(&step.chunks)?;
        if step.unsized_body {
            chunks = chunks.or(Some(CHUNK));
        }
        let body = match &step.body {
            Some(Short(content)) => content.bytes(folder, values)?,
            None => Vec::new(),
        };
        let length = step.length.as_ref().map(|length| length.get(values)).transpose()?;
        let (method, head, mut shown) = self.head(step, values, body.len(), length, chunks)?;
        let leaves = step.leaves.as_ref().and_then(|leaves| leaves.sent.as_ref());
        let leaves = leaves.map(|sent| sent.size(values)).transpose()?;
        let (cut, pause) = (size(&step.cut)?, size(&step.pause)?);
        if step.body.is_some() {
            shown += &format!(", body of {} bytes", body.len());
        }
        for (what, number) in [(", in chunks of ", chunks), (", cut after ", cut.or(leaves))] {
            if let Some(number) = number {
                shown += &format!("{what}{number}");
            }
        }
        let (to, ends) = (body.len(), chunks.is_some());
        let sending = Sending { body, from: 0, to, chunks, ends };
        Ok(Request { method, head, sending, cut, leaves, pause, shown })
    }

    /// The method and head of a request, as sent and as shown.
    fn head(
        &self,
        step: &Step,
        values: &Values,
        body: usize,
        length: Option<u64>,
        chunks: Option<usize>,
    ) -> Result<(String, String, String), String> {
        if let Some(raw) = &step.raw {
            let raw = values.fill(raw)?;
            let method = raw.split(' ').next().unwrap_or_default().to_owned();
            let shown = format!("{raw:?}");
            return Ok((method, raw, shown));
        }
        let Some(send) = &step.send else {
            return Ok((String::new(), String::new(), "the rest of a request".to_owned()));
        };
        let (method, target) = send.fill(values, &self.base)?;
        let (mut head, mut shown) =
            (format!("{method} {target} HTTP/1.1\r\n"), format!("{method} {target}"));
        let mut header = |name: &str, value: &str| head += &format!("{name}: {value}\r\n");
        if !step.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
            header("host", self.host);
        }
        let nobody = step.user.as_ref().is_some_and(|user| user.0.name.is_empty());
        let login = step.login.as_deref().or(self.login.as_deref());
        if let Some(login) = login.filter(|login| !login.is_empty() && !nobody) {
            header("authorization", &authorization(&values.fill(login)?));
            let (name, _) = login.split_once(':').unwrap_or((login, ""));
            shown += &format!(", as {name}");
        }
        for (name, all) in &step.headers {
            for value in &all.0 {
                let (name, value) = (values.fill(name)?, values.fill(value)?);
                header(&name, &value);
                shown += &format!(", {name}: {value}");
            }
        }
        let has_length =
            step.headers.keys().any(|name| name.eq_ignore_ascii_case("content-length"));
        let length = match (&step.body, length) {
            _ if has_length => None,
            (_, Some(length)) => Some(length),
            (_, None) if chunks.is_some() => None,
            (Some(_), None) => Some(body as u64),
            (None, None) => (method == "POST").then_some(0),
        };
        if let Some(length) = length {
            header("content-length", &length.to_string());
        }
        if chunks.is_some() {
            header("transfer-encoding", "chunked");
        }
        if step.interim.is_some() {
            header("expect", "100-continue");
        }
        Ok((method, format!("{head}\r\n"), shown))
    }

    /// Carries out what a step sends and receives.
    pub(super) fn exchange(
        &self,
        open_connections: &mut Connections,
        step: &Step,
        request: Request,
    ) -> Result<Received, Reset> {
        let name = step.on.clone().unwrap_or_default();
        if step.close {
            open_connections.remove(&name);
            return Ok(Received::Nothing);
        }
        let kept = open_connections.remove(&name).filter(|_| step.on.is_some());
        let mut open = match kept {
            Some(open) => open,
            None => match self.endpoint.connect() {
                Ok(connection) => Open { connection, rest: None },
                Err(error) => return Ok(failed("a connection", &error)),
            },
        };
        let Request { method, head, sending, cut, leaves, pause, .. } = request;
        let (method, sending) = if step.resume {
            // Pipelined requests have been sent already; only their replies are left.
            let nothing = || Rest { method: "GET".to_owned(), sending: Sending::default() };
            let rest = open.rest.take().unwrap_or_else(nothing);
            (rest.method, rest.sending)
        } else {
            // The server may have closed the connection already. Its reply says why.
            let _ = open.connection.write(head.as_bytes());
            if let Some(wanted) = step.interim
                && let Some(received) = interim(&mut open.connection, wanted, &method)
            {
                return Ok(received);
            }
            (method, sending)
        };
        if let Some(pause) = pause {
            let (now, rest) = sending.split(pause);
            if let Err(error) = open.connection.write(&now.bytes()) {
                return Ok(failed("the start of the request to be read", &error));
            }
            open.rest = Some(Rest { method, sending: rest });
            open_connections.insert(name, open);
            return Ok(Received::Nothing);
        }
        if let Some(sent) = leaves {
            // The server may have refused the request already. A client that disconnects does not wait for
            // that.
            let _ = open.connection.write(&sending.cut(sent).bytes());
            open.connection.abandon();
            return Ok(Received::Nothing);
        }
        let sending = match cut {
            Some(cut) => sending.cut(cut),
            None => sending,
        };
        let received = send_and_read(&mut open.connection, &method, &sending, cut.is_some());
        let received = received.map(|reply| response(reply, &mut open.connection, step));
        if step.on.is_some() && !step.expect.as_ref().is_some_and(|expect| expect.closed) {
            open_connections.insert(name, open);
        }
        match received {
            Ok(received) => Ok(received),
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                let (expected, got) =
                    ("a reply, or the end of the connection", "neither arrived within a minute");
                Ok(Received::Failed { expected: expected.to_owned(), got: got.to_owned() })
            }
            Err(error)
                if matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe) =>
            {
                Err(Reset(error.to_string()))
            }
            Err(error) => Ok(Received::Closed(error.to_string())),
        }
    }
}

/// The server reset the connection before the reply was read. The text says how.
#[derive(Debug)]
pub(super) struct Reset(pub(super) String);

fn failed(expected: &str, error: &io::Error) -> Received {
    Received::Failed { expected: expected.to_owned(), got: error.to_string() }
}

fn response(reply: Reply, connection: &mut Connection, step: &Step) -> Received {
    let looks = step.expect.as_ref().is_some_and(|expect| expect.closed);
    let closed = looks.then(|| connection.is_closed_by_server());
    let Reply { status, headers, body, .. } = reply;
    Received::Response(Response { status, headers, body, closed, ..Response::default() })
}

fn send_and_read(
    connection: &mut Connection,
    method: &str,
    sending: &Sending,
    is_cut: bool,
) -> io::Result<Reply> {
    match connection.writer().filter(|_| sending.to.saturating_sub(sending.from) > AT_ONCE) {
        Some(writer) => send_while_reading(connection, writer, sending, method, is_cut),
        None => {
            // A server that has replied already may have closed the connection. Its reply is read whether or
            // not the body was sent completely.
            let _ = connection.write(&sending.bytes());
            if is_cut {
                connection.finish_writing();
            }
            connection.reply(method)
        }
    }
}

fn send_while_reading(
    connection: &mut Connection,
    mut writer: Writer,
    sending: &Sending,
    method: &str,
    is_cut: bool,
) -> io::Result<Reply> {
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        scope.spawn(move || {
            let _ = writer.write_all(&sending.bytes());
            if is_cut {
                writer.finish_writing();
            }
            let _ = done.send(());
        });
        let reply = connection.reply(method);
        // If the server stops reading, the writer would wait forever.
        if finished.recv_timeout(WRITING).is_err() {
            connection.abandon();
        }
        reply
    })
}

impl Sending {
    fn split(self, at: usize) -> (Self, Self) {
        let at = self.from.saturating_add(at).min(self.to);
        let now = Self { to: at, ends: false, ..self.clone() };
        (now, Self { from: at, ..self })
    }

    fn cut(self, at: usize) -> Self {
        Self { to: self.to.min(at), ends: false, ..self }
    }

    /// The head as it is sent.
    fn bytes(&self) -> Vec<u8> {
        let plain = self.body.get(self.from..self.to).unwrap_or_default();
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

/// Waits for `100 Continue`, or for the final reply if that is expected.
fn interim(connection: &mut Connection, wanted: bool, method: &str) -> Option<Received> {
    let head = match connection.read_head() {
        Ok(head) => head,
        Err(error) => return Some(failed(if wanted { "100 Continue" } else { "a reply" }, &error)),
    };
    if !wanted {
        // Whatever arrives first is the reply. A 100 is compared like any other.
        let Reply { status, headers, body, .. } = head;
        return Some(Received::Response(Response { status, headers, body, ..Response::default() }));
    }
    (head.status != 100).then(|| Received::Failed {
        expected: format!("100 Continue for the {method}"),
        got: format!("{} at once", head.status),
    })
}
