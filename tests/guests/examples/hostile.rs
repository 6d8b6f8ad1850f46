//! Does to the host what its first path segment says: `/loop`, `/flood`, `/trap`, `/break-off`,
//! `/recurse`, `/nonsense` ... and a few honest things, to show that others are served meanwhile.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    unconditional_recursion,
    reason = "this is what it is for"
)]

use keepgate_sdk::{
    Description, Failure, Level, Plugin, PutOptions, Reply, Request, Store, environment,
};

/// The plugin.
#[derive(Debug)]
pub struct Hostile;

keepgate_sdk::export!(Hostile);

/// Settings that only exist to be refused.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Answered by `/hello`.
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
            // What becomes of a failure where a plugin makes a reply of each.
            "answer-midway" => Ok(Reply::ok()
                .stream(|out| {
                    // More than the host takes before it sends the head.
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
                // Reads a little of the body and hands the rest back.
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
            _ => Err(Failure::NotFound),
        }
    }
}

fn deeper(bytes: &[u8]) -> u64 {
    let mut more = [0; 64];
    more.copy_from_slice(bytes);
    more[0] = more[0].wrapping_add(1);
    std::hint::black_box(deeper(std::hint::black_box(&more))) + 1
}
