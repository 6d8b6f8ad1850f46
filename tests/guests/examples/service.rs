//! A service of the standard world `wasi:http/proxy` that knows nothing of Keepgate. The first segment of a path says what
//! it does.

#![allow(clippy::panic, clippy::unwrap_used, reason = "traps are its purpose")]

use std::io::Write as _;

use wasip2::cli::environment::get_environment;
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, StreamError};

/// The service.
#[derive(Debug)]
pub struct Service;

// Only linkers for WebAssembly accept the names of its symbols.
#[cfg(target_family = "wasm")]
wasip2::http::proxy::export!(Service);

impl wasip2::exports::http::incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // The standard bindings leave this to the C library, which is missing here.
        wit_bindgen::rt::maybe_link_cabi_realloc();
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match path.split('/').nth(1).unwrap_or_default() {
            "hello" => {
                let header = |name| header(&request, name);
                let said = format!(
                    "{:?} {target} at {:?} {:?} prefix={:?} user={:?} accept={:?} environment={:?}",
                    request.method(),
                    request.scheme(),
                    request.authority(),
                    header("x-forwarded-prefix"),
                    header("x-forwarded-user"),
                    header("accept"),
                    get_environment(),
                );
                answer(out, 200, said.as_bytes());
            }
            "credentials" => {
                let (user, sent) =
                    (header(&request, "x-forwarded-user"), header(&request, "authorization"));
                let known = user.is_some() || sent.as_deref() == Some("Bearer sesame");
                answer(out, if known { 200 } else { 401 }, format!("{user:?} {sent:?}").as_bytes());
            }
            // Writes bytes while it still reads others.
            "echo" => {
                let incoming = request.consume().unwrap();
                let stream = incoming.stream().unwrap();
                let (body, mut writer) = begin(out, 200);
                while let Some(chunk) = read(&stream) {
                    writer.write_all(&chunk).unwrap();
                }
                writer.flush().unwrap();
                drop(writer);
                OutgoingBody::finish(body, None).unwrap();
            }
            "length" => {
                let incoming = request.consume().unwrap();
                let stream = incoming.stream().unwrap();
                let mut length = 0;
                while let Some(chunk) = read(&stream) {
                    length += chunk.len();
                }
                answer(out, 200, length.to_string().as_bytes());
            }
            "ignore" => answer(out, 403, b"not read"),
            "fetch" => {
                let wanted = OutgoingRequest::new(Fields::new());
                wanted.set_scheme(Some(&Scheme::Http)).unwrap();
                wanted.set_authority(Some("127.0.0.1:1")).unwrap();
                wanted.set_path_with_query(Some("/")).unwrap();
                let said = match outgoing_handler::handle(wanted, None) {
                    Ok(future) => {
                        future.subscribe().block();
                        format!("{:?}", future.get().unwrap().unwrap().map(drop))
                    }
                    Err(code) => format!("Err({code:?})"),
                };
                answer(out, 200, said.as_bytes());
            }
            "loop" => loop {
                std::hint::black_box(());
            },
            "flood" => {
                let mut kept = Vec::new();
                loop {
                    // Otherwise the compiler sees that nobody reads them, and removes them.
                    kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "trap" => panic!("on purpose"),
            "sleep" => monotonic_clock::subscribe_duration(3_600_000_000_000).block(),
            "silent" => {}
            "error" => ResponseOutparam::set(out, Err(ErrorCode::LoopDetected)),
            "break-off" => {
                let (_body, mut writer) = begin(out, 200);
                writer.write_all(&[b'x'; 100_000]).unwrap();
                panic!("in the middle of a reply")
            }
            "unfinished" => {
                let (body, mut writer) = begin(out, 200);
                writer.write_all(b"half").unwrap();
                writer.flush().unwrap();
                drop((writer, body));
            }
            "fields" => loop {
                std::mem::forget(Fields::new());
            },
            "huge-head" => {
                let fields = Fields::new();
                for n in 0..10_000 {
                    fields.append(&format!("x-{n}"), &[b'x'; 4000]).unwrap();
                }
            }
            _ => answer(out, 404, b"no such thing"),
        }
    }
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let values = request.headers().get(name);
    values.first().map(|value| String::from_utf8_lossy(value).into_owned())
}

fn begin(out: ResponseOutparam, status: u16) -> (OutgoingBody, impl std::io::Write) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let writer = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    (body, writer)
}

fn answer(out: ResponseOutparam, status: u16, text: &[u8]) {
    let (body, mut writer) = begin(out, status);
    writer.write_all(text).unwrap();
    writer.flush().unwrap();
    drop(writer);
    OutgoingBody::finish(body, None).unwrap();
}

fn read(stream: &InputStream) -> Option<Vec<u8>> {
    match stream.blocking_read(1 << 16) {
        Ok(chunk) => Some(chunk),
        Err(StreamError::Closed) => None,
        Err(error) => panic!("{error:?}"),
    }
}
