//! Attacks the host in the way that the first segment of a path names: `/loop`, `/flood`, `/trap`, `/break-off`,
//! `/recurse`, `/nonsense` ... A few paths are honest, to show that other requests are still served.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    unconditional_recursion,
    reason = "traps are its purpose"
)]

use std::mem::{ManuallyDrop, forget};
use std::time::Duration;

use keepgate_sdk::bindings::keepgate::plugin::environment as raw;
use keepgate_sdk::{
    Body, Description, Failure, Level, Part, Plugin, PutOptions, Reply, Request, Store,
    environment, pipes,
};

/// The plugin.
#[derive(Debug)]
pub struct Hostile;

keepgate_sdk::export!(Hostile);

/// Settings that only exist to be refused.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The reply to `/hello`.
    greeting: String,
}

impl Plugin for Hostile {
    type Settings = Settings;

    fn describe() -> Description {
        Description::new("hostile", "1.0.0").counter("hostile_total", "Calls", &["what"])
    }

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.greeting == "forbidden" {
            return Err("greeting: this word is not allowed".to_owned());
        }
        Ok(())
    }

    fn handle(request: Request, settings: Settings) -> Result<Reply, Failure> {
        let what = request.segments.first().map_or("", String::as_str).to_owned();
        match what.as_str() {
            "hello" => {
                environment::count("hostile_total", &["hello"], 1);
                environment::log(Level::Debug, "said hello");
                Ok(Reply::ok().text(format!("hello {}{}", request.user(), settings.greeting)))
            }
            "loop" => loop {
                std::hint::black_box(());
            },
            "loop-calling" => loop {
                std::hint::black_box(environment::now());
            },
            "flood" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                }
            }
            "trap" => panic!("on purpose"),
            "recurse" => Ok(Reply::ok().text(deeper(&[0; 64]).to_string())),
            "break-off" => Reply::ok().stream(|out| {
                out.write(&[b'x'; 100_000])?;
                panic!("in the middle of a reply")
            }),
            "fail-midway" => Reply::ok().stream(|out| {
                out.write(&[b'x'; 100_000])?;
                Err(Failure::Internal("in the middle of a reply".to_owned()))
            }),
            // Returns failures, so that a test sees what the host makes of each.
            "answer-midway" => Ok(Reply::ok()
                .stream(|out| {
                    // More than the host buffers before it sends the head.
                    for _ in 0..8 {
                        out.write(&[b'x'; 100_000])?;
                    }
                    Err(Failure::Internal("in the middle of a reply".to_owned()))
                })
                .unwrap_or_else(|failure| Reply::new(failure.status()))),
            "stream-forever" => Reply::ok().stream(|out| {
                loop {
                    out.write(&[b'x'; 100_000])?;
                }
            }),
            "nonsense" => Ok(Reply::new(42)),
            "header" => Ok(Reply::ok().header("x", "a\r\nset-cookie: b")),
            "random" => Ok(Reply::ok().bytes(environment::random(1 << 20))),
            "length" => {
                let mut length = 0;
                while let Some(chunk) = request.body.read(1 << 20)? {
                    length += chunk.len();
                }
                Ok(Reply::ok().text(length.to_string()))
            }
            "tail" => {
                // Reads a little of the body and returns the rest.
                let start = request.body.read(10)?.unwrap_or_default().len();
                Ok(Reply::ok().header("x-read", start).body(request.body))
            }
            "echo" => Ok(Reply::ok().body(request.body)),
            "ignore" => Ok(Reply::new(403)),
            "store" => Store::open("main").map(|_| Reply::ok()),
            "escape" => {
                let store = Store::open("main")?;
                store.put("../escaped", request.body, &PutOptions::replace())?;
                Ok(Reply::ok())
            }
            // Keeps memory, or blobs open, until the body has arrived.
            "hold" => {
                let kept = vec![1_u8; number(&request) << 20];
                while request.body.read(1 << 20)?.is_some() {}
                Ok(Reply::ok().text(std::hint::black_box(&kept).len().to_string()))
            }
            "hold-blobs" => {
                let store = Store::open("main")?;
                store.put("a-blob", Body::from_bytes(&vec![7; 300_000]), &PutOptions::replace())?;
                let open = |_| store.get("a-blob", Part::Whole);
                let kept = (0..number(&request)).map(open).collect::<Result<Vec<_>, _>>()?;
                while request.body.read(1 << 20)?.is_some() {}
                Ok(Reply::ok().text(kept.len().to_string()))
            }
            // A reply that is complete in memory.
            "huge-reply" => Ok(Reply::ok().bytes(vec![b'x'; 24 << 20])),
            "huge-pieces" => Reply::ok().stream(|out| {
                for _ in 0..6 {
                    out.write(&vec![b'x'; 8 << 20])?;
                }
                Ok(())
            }),
            "huge-head" => Ok(Reply::ok().header("x", "a".repeat(1 << 20))),
            "huge-failure" => Err(Failure::Denied("no\n".repeat(1 << 20))),
            "huge-refusal" => {
                let refused =
                    Failure::refused(422, &"code\n".repeat(1 << 18), "no\n".repeat(1 << 18));
                Err(refused.retry_after(Duration::MAX))
            }
            "bad-refusal" => Err(Failure::refused(200, "fine", "no\n".repeat(1 << 18))),
            // Handles cost memory of the host, not of the guest.
            "leak" => {
                forget(Body::from_bytes(b"left behind"));
                Ok(Reply::ok())
            }
            "bodies" => loop {
                forget(Body::from_bytes(b"small"));
            },
            "large-bodies" => {
                let bytes = vec![1; 1 << 20];
                loop {
                    forget(Body::from_bytes(&bytes));
                }
            }
            "compressors" => loop {
                let body = pipes::gzip(Body::from_bytes(b"small"), 9)?;
                body.read(1)?;
                forget(body);
            },
            "meters" => loop {
                forget(pipes::Meter::attach(Body::from_bytes(b"small")));
            },
            // Each wraps the previous one, so that only one handle is alive.
            "layers" => {
                let mut body = request.body;
                loop {
                    body = pipes::Meter::attach(body).1;
                }
            }
            "stores" => loop {
                forget(Store::open("main")?);
            },
            "listings" => {
                let store = Store::open("main")?;
                loop {
                    forget(store.list("", true)?);
                }
            }
            "blobs" => {
                let store = Store::open("main")?;
                store.put("a-blob", Body::from_bytes(&vec![7; 300_000]), &PutOptions::replace())?;
                loop {
                    forget(store.get("a-blob", Part::Whole)?);
                }
            }
            "spools" => loop {
                forget(pipes::spool(Body::from_bytes(b"some bytes"))?);
            },
            "bomb" => {
                let body = pipes::gunzip(request.body);
                while body.read(1 << 20)?.is_some() {}
                Ok(Reply::ok())
            }
            "log-flood" => loop {
                environment::log(Level::Error, &"flood ".repeat(100));
            },
            "log-forged" => {
                environment::log(Level::Error, "first\n1970-01-01T00:00:00Z ERROR forged");
                environment::log(Level::Error, "forged mount=/restic plugin=restic");
                let field = ("mount".to_owned(), "/restic".to_owned());
                raw::log(Level::Error, "a field is forged", &[field]);
                Ok(Reply::ok())
            }
            // A few megabytes in the guest become gigabytes when the host copies them.
            "log-list" => {
                let text = "x".repeat(4 << 20);
                let fields: Vec<_> = (0..1000).map(|_| (alias(&text), alias(&text))).collect();
                let fields = ManuallyDrop::new(fields);
                raw::log(Level::Error, "a", &fields);
                Ok(Reply::ok())
            }
            "prepare-list" => {
                let text = "x".repeat(4 << 20);
                let folders: Vec<_> = (0..1000).map(|_| alias(&text)).collect();
                let folders = ManuallyDrop::new(folders);
                Store::open("main")?.prepare(&folders)?;
                Ok(Reply::ok())
            }
            "count-flood" => {
                let mut n = 0_u64;
                loop {
                    n += 1;
                    environment::count("hostile_total", &[&n.to_string()], 1);
                    environment::count("hostile_total", &[&"x".repeat(100_000)], 1);
                    environment::count("no_such_total", &[], 1);
                }
            }
            _ => Err(Failure::NotFound),
        }
    }
}

/// The second segment of the path.
fn number(request: &Request) -> usize {
    request.segments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The same bytes once more, without a copy.
fn alias(text: &str) -> String {
    let (bytes, length) = (text.as_ptr().cast_mut(), text.len());
    // SAFETY: callers never drop or change it, and read it only while the original lives.
    unsafe { String::from_raw_parts(bytes, length, length) }
}

fn deeper(bytes: &[u8]) -> u64 {
    let mut more = [0; 64];
    more.copy_from_slice(bytes);
    more[0] = more[0].wrapping_add(1);
    std::hint::black_box(deeper(std::hint::black_box(&more))) + 1
}
