//! Publishes to topics and follows them. `follow/TOPIC` streams whatever comes, a line for each, `publish/TOPIC` publishes
//! the request's body and answers how many have got it, and `deaf/TOPIC` goes on waiting whatever it is told.

use std::time::Duration;

use keepgate_sdk::topics::{self, News, Subscription};
use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
use serde::de::IgnoredAny;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// The plugin.
#[derive(Debug)]
pub struct Follower;

keepgate_sdk::export!(Follower);

impl Plugin for Follower {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("follower", "1.0.0")
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        let [act, topic] = segments[..] else { return Err(Failure::NotFound) };
        match act {
            "publish" => {
                let message = request.body.bytes(1 << 20)?;
                Ok(Reply::ok().text(topics::publish(topic, &message)?.to_string()))
            }
            "follow" => {
                let news = Subscription::open(topic)?;
                Reply::ok().stream(|out| {
                    out.write(b"open\n")?;
                    loop {
                        out.flush()?;
                        match news.next(LONG) {
                            News::Message(message) => out.write(&message)?,
                            News::Missed => out.write(b"missed")?,
                            News::Nothing => out.write(b"nothing")?,
                            News::Closed => return out.write(b"closed\n"),
                        }
                        out.write(b"\n")?;
                    }
                })
            }
            "deaf" => {
                let news = Subscription::open(topic)?;
                loop {
                    news.next(LONG);
                }
            }
            _ => Err(Failure::NotFound),
        }
    }
}
