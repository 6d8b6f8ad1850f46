//! Heads of requests of all sorts on sockets of the real server: each is answered by the handler or refused with a
//! well-formed response, and the handler sees what was sent, decoded and not changed in any other way. `cargo xtask fuzz
//! requests` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy allows them in test functions only, not in what these functions share"
)]

#[path = "../../../tests/fuzz/inputs.rs"]
mod inputs;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use keepgate_auth::Access;
use keepgate_core::{CallError, Reply, Request};
use keepgate_http::{
    Gateway, Handler, ListenerConfig, LocalAddress, Metrics, Server, Shutdown, Site,
};
use keepgate_store::Body;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use inputs::{Bytes, config, edited, edits};

/// Where the handler is. Other paths are nobody's.
const MOUNT: &str = "/m/a b";
/// What the handler answers. It looks like nothing of HTTP.
const BODY: &str = "the handler was here";
/// No input takes this long unless something hangs: whoever sends it sends no more.
const LONG: Duration = Duration::from_secs(60);

/// Whether a thread of the server panicked. It survives that in one connection, so that no client could tell.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// What the handler saw and must not see.
static WRONG: Mutex<Option<String>> = Mutex::new(None);

/// The name of the server's threads.
const SERVER: &str = "server";

/// Looks at each request, and takes it.
struct Observer;

impl Handler for Observer {
    fn path(&self) -> &str {
        MOUNT
    }

    fn plugin(&self) -> &str {
        "observer"
    }

    fn call(&self, mut request: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            if let Err(wrong) = check(&request) {
                *WRONG.lock().unwrap() = Some(wrong);
            }
            // A body that breaks off is the client's affair.
            while let Some(Ok(_)) = request.body.chunk().await {}
            Ok(Reply { status: 200, headers: Vec::new(), body: Body::from_bytes(BODY) })
        })
    }
}

/// What every handler may rely on.
fn check(request: &Request) -> Result<(), String> {
    let Request { method, base, target, path, trailing_slash, query, headers, principal, .. } =
        request;
    let fail = |what: &str| Err(format!("{what}: {request:?}"));
    let is_token = |text: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(fine)
    };
    if !is_token(method) || principal.is_some() {
        return fail("method or user");
    }
    // The path is the target's, segment by segment: nothing is normalised, nothing is decoded twice.
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let mut raw: Vec<&str> = raw_path.strip_prefix('/').unwrap_or("*").split('/').collect();
    let slash = raw.last() == Some(&"");
    if slash {
        raw.pop();
    }
    let decoded: Option<Vec<String>> =
        raw.iter().map(|raw| String::from_utf8(decode(raw.as_bytes())?).ok()).collect();
    let mount = MOUNT.split('/').skip(1).map(str::to_owned);
    if decoded != Some(mount.chain(path.iter().cloned()).collect()) || slash != *trailing_slash {
        return fail("path");
    }
    let pairs = form_urlencoded::parse(raw_query.as_bytes()).into_owned();
    if *query != pairs.collect::<Vec<_>>() {
        return fail("query");
    }
    // Empty, or a URL that names this mount and nobody's credentials, and that can stand in a header.
    let authority = base.strip_prefix("http://").and_then(|base| base.strip_suffix("/m/a%20b"));
    let is_host = |text: &str| {
        !text.is_empty() && !text.contains(|c: char| c.is_control() || " /?#@\"<>\\".contains(c))
    };
    if !base.is_empty() && !authority.is_some_and(is_host) {
        return fail("base");
    }
    for (name, value) in headers {
        const WITHHELD: [&str; 8] = [
            "authorization",
            "proxy-authorization",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let is_plain = |c: char| c == '\t' || !c.is_ascii_control();
        let lower = name.to_ascii_lowercase() == *name;
        if !is_token(name) || !lower || !value.chars().all(is_plain) {
            return fail("a header");
        }
        if WITHHELD.contains(&name.as_str()) {
            return fail("a header that is not for handlers");
        }
    }
    Ok(())
}

/// Decodes one segment byte by byte; `None` for an invalid escape.
fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    let (mut decoded, mut rest) = (Vec::new(), raw);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        decoded.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = after;
    }
    Some(decoded)
}

/// A server that serves until the tests end.
struct Serving {
    runtime: Runtime,
    address: SocketAddr,
}

static SERVING: LazyLock<Serving> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(SERVER) {
            PANICKED.store(true, Ordering::SeqCst);
        }
        before(panic);
    }));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name(SERVER).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let mounts: [(Arc<dyn Handler>, Arc<Access>); 1] =
            [(Arc::new(Observer), Arc::new(Access::Open))];
        let site = Arc::new(ArcSwap::from_pointee(Site::new(mounts, &metrics).unwrap()));
        let config = ListenerConfig::new("127.0.0.1:0".parse().unwrap());
        let gateway = Gateway::new(site, metrics, config.timeouts.clone());
        let server = Server::bind(config).await.unwrap();
        let address = server.local_addresses().first().unwrap().clone();
        tokio::spawn(async move { server.serve(Arc::new(gateway), &Shutdown::new()).await });
        match address {
            LocalAddress::Tcp(address) => address,
            LocalAddress::Unix(_) => panic!("the listener is TCP"),
        }
    });
    Serving { runtime, address }
});

/// Sends bytes on a new connection, and no more. Returns what came back, and whether the end was clean.
async fn exchange(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(SERVING.address).await.unwrap();
    let mut said = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let send = async {
        // The server may have refused it meanwhile.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let (read, ()) = tokio::join!(reader.read_to_end(&mut said), send);
    (said, read.is_ok())
}

/// The statuses in what a server sent, if all of it is responses.
fn statuses(mut rest: &[u8]) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let end =
            rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("an unfinished head")?;
        let head = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?;
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let version = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
        let status = version.and_then(|rest| rest.get(..3)?.parse().ok()).ok_or(first)?;
        statuses.push(status);
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or(line)?;
            if line.contains(char::is_control) {
                return Err(format!("control characters in {line:?}"));
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(format!("a body of unknown length, {line:?}"));
            }
            if name.eq_ignore_ascii_case("content-length") {
                let known: usize = value.parse().map_err(|_| line)?;
                if length.replace(known).is_some() {
                    return Err("two lengths".to_owned());
                }
            }
        }
        // What answers HEAD has a length and no body; no body here looks like a response.
        if !rest.starts_with(b"HTTP/1.") && !rest.is_empty() {
            let length = length.ok_or("a body without a length")?;
            rest = rest.get(length..).ok_or_else(|| format!("{length} bytes are missing"))?;
        }
    }
    Ok(statuses)
}

/// Sends bytes and judges what comes back; returns the statuses.
fn send(bytes: &[u8]) -> Result<Vec<u16>, TestCaseError> {
    // What goes wrong is the fault of these bytes and not of another test's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    *WRONG.lock().unwrap() = None;
    let exchanged =
        SERVING.runtime.block_on(async { tokio::time::timeout(LONG, exchange(bytes)).await });
    prop_assert!(exchanged.is_ok(), "the connection stays open for nothing");
    let (said, clean) = exchanged.unwrap();
    let shown = String::from_utf8_lossy(&said).into_owned();
    let statuses = match statuses(&said) {
        Ok(statuses) => statuses,
        // A reset takes what is on its way.
        Err(_) if !clean => Vec::new(),
        Err(why) => return Err(TestCaseError::fail(format!("{why} in {shown:?}"))),
    };
    // 1xx of `Expect`, and what the client did wrong.
    let known = |status: &u16| matches!(status, 100 | 200 | 400..=499);
    prop_assert!(statuses.iter().all(known), "{}", shown);
    prop_assert!(!PANICKED.swap(false, Ordering::SeqCst), "the server panicked");
    let wrong = WRONG.lock().unwrap().take();
    prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    Ok(statuses)
}

/// What means something in heads.
const WORDS: [&[u8]; 42] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\x7f",
    b"\xff",
    b"/",
    b"//",
    b"/../",
    b"/./",
    b"%2e%2e",
    b"%2f",
    b"%00",
    b"%0d%0a",
    b"%25",
    b"%c3%a9",
    b"%ff",
    b"%",
    b"?",
    b"&",
    b"+",
    b";",
    b"#",
    b"@",
    b"*",
    b"http://",
    b"GET ",
    b" HTTP/1.1\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"5;x=y\r\nhello\r\n0\r\n\r\n",
    b"Connection: close, x-hop\r\n",
];

/// Requests as clients send them.
const SAMPLES: [&[u8]; 9] = [
    b"GET /m/a%20b/x/../y//z/?a=1&b=%26+c HTTP/1.1\r\nHost: backup:8000\r\nConnection: x-hop\r\nx-hop: 1\r\n\r\n",
    b"HEAD /m/a%20b/ HTTP/1.1\r\nHost: backup\r\nRange: bytes=0-9\r\n\r\n",
    b"PUT /m/a%20b/x HTTP/1.1\r\nHost: backup\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /m/a%20b/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST /m/a%20b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"GET http://else.example:80/m/a%20b/x?y HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\n\r\n",
    b"GET /m/a%20b/x HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET /m/a%20b/%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

/// One or two requests with damage.
fn damaged() -> impl Strategy<Value = Bytes> {
    let sample = || prop::sample::select(&SAMPLES[..]);
    (sample(), prop::option::of(sample()), edits(&WORDS)).prop_map(|(one, two, edits)| {
        Bytes(edited(&[one, two.unwrap_or_default()].concat(), &edits))
    })
}

/// A path as nobody would write it.
fn odd_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("/".to_owned()),
        2 => prop::sample::select(&["%2f", "%2F", "..", ".", "%2e", "%00", "%0a", "%25", "%", "%ff", "%c3", "é"][..])
            .prop_map(str::to_owned),
        1 => any::<u8>().prop_map(|byte| format!("%{byte:02x}")),
        2 => "[!-~]",
        4 => "[a-z0-9._~+-]{1,4}",
    ];
    let pieces = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let mount =
        prop::sample::select(&["/m/a%20b", "/m/%61%20b", "/m/a%20b/", "/%6d/a b", "/m", ""][..]);
    (mount, pieces).prop_map(|(mount, pieces)| format!("{mount}{pieces}"))
}

/// A head as nobody would write it, with a valid form.
fn odd_head() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        prop::sample::select(
            &["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "M-SEARCH"][..]
        )
        .prop_map(str::to_owned),
        "[A-Z!#$%&'*+.^_`|~-]{1,12}",
    ];
    let name = prop_oneof![
        prop::sample::select(
            &[
                "Host",
                "Cookie",
                "Range",
                "Origin",
                "Authorization",
                "TE",
                "Trailer",
                "X-Forwarded-For",
                "Date"
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}",
    ];
    let value = prop_oneof![
        "[ -~\t]{0,20}",
        "[a-z.-]{1,10}(:[0-9]{0,6})?",
        r"\[[0-9a-f:.]{0,12}\](:[0-9]{1,5})?",
        "[a-z\u{80}-\u{ff}é中]{0,8}",
    ];
    let headers = prop::collection::vec((name, value), 0..5);
    (method, odd_path(), headers).prop_map(|(method, path, headers)| {
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{method} {path} HTTP/1.1\r\n{headers}\r\n")
    })
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn damaged_heads_are_answered_or_refused(bytes in damaged()) {
        send(&bytes.0)?;
    }

    #[test]
    fn any_bytes_are_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes)) {
        send(&bytes.0)?;
    }

    #[test]
    fn odd_heads_are_answered_as_they_are(head in odd_head()) {
        let answers = send(head.as_bytes())?;
        prop_assert_eq!(answers.len(), 1, "{:?}", answers);
    }

    /// What is encoded arrives as it was before, at the handler and not at another.
    #[test]
    fn encoded_paths_reach_the_handler(
        segments in prop::collection::vec("(?s).{0,6}", 0..6),
        slash: bool,
        query in prop::collection::vec(("(?s).{0,6}", "(?s).{0,6}"), 0..4),
    ) {
        let encode = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let mut path = "/m/a%20b".to_owned();
        for segment in &segments {
            path = format!("{path}/{}", encode(segment));
        }
        // An empty segment at the end is what a slash at the end makes.
        let slash = if slash || segments.last().is_some_and(String::is_empty) { "/" } else { "" };
        let query: Vec<_> =
            query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let head = format!("GET {path}{slash}?{} HTTP/1.1\r\nHost: a\r\n\r\n", query.join("&"));
        prop_assert_eq!(send(head.as_bytes())?, [200]);
    }
}
