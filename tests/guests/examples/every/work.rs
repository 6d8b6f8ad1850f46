//! `pipes`, `jobs`, `topics`, `turns`, and what comes before a reply.

use crate::bindings::keepgate::plugin::environment;
use crate::bindings::keepgate::plugin::http::{self, Head};
use crate::bindings::keepgate::plugin::jobs::{self, Options, Progress, State, WhenBusy};
use crate::bindings::keepgate::plugin::pipes::{self, Checksum, Entry, Meter};
use crate::bindings::keepgate::plugin::topics::{self, News, Subscription};
use crate::bindings::keepgate::plugin::turns::Turn;
use crate::bindings::keepgate::plugin::types::{Body, Failure};
use crate::{ABC, ABC_XXH3, DAY, Said};

impl Said {
    pub(crate) fn pipes(&mut self) -> Result<(), Failure> {
        let packed = pipes::gzip(Body::from_bytes(b"abcabcabc"), 6)?;
        self.say("gunzip", pipes::gunzip(packed).read(100)?);
        let (meter, metered) = Meter::attach(Body::from_bytes(b"abc"));
        self.say("sum before", meter.sum().map(|sum| sum.size));
        while metered.read(100)?.is_some() {}
        self.say("sum", meter.sum().map(|sum| (sum.size, sum.sha256 == ABC)));
        let spooled = pipes::spool(Body::from_bytes(b"abc"))?;
        let bytes = spooled.data.read(100)?;
        self.say("spool", (spooled.size, spooled.sha256 == ABC, bytes));
        let archive = pipes::tar(vec![Entry {
            path: "a/b".to_owned(),
            size: 3,
            mode: 0o600,
            modified: DAY,
            data: Body::from_bytes(b"abc"),
        }])?;
        self.say("tar", archive.length());
        Ok(())
    }

    pub(crate) fn jobs(&mut self, id: Option<&str>) -> Result<(), Failure> {
        if let Some(id) = id {
            let job = jobs::get(id)?;
            self.say(
                "get",
                (&job.kind, &job.key, &job.origin, job.state, job.attempt, job.attempts),
            );
            self.say("principal", job.principal.as_ref().map(|user| user.name.as_str()));
            let times = (job.created > 0, job.started.is_some(), job.ended.is_some(), job.next);
            self.say("times", times);
            self.say("progress", (job.progress.done, job.progress.total, &job.progress.phase));
            self.say("output", (String::from_utf8_lossy(&job.output), &job.message));
            let waited = jobs::wait(id, job.state, 10)?;
            self.say("wait", waited.state == job.state);
            self.say("withdraw", jobs::withdraw(id)?);
            self.say("cancel", jobs::cancel(id)?);
            let after = jobs::list("after", 10)?;
            self.say("list", after.iter().map(|job| (job.state, &job.output)).collect::<Vec<_>>());
            return Ok(());
        }
        let options = |key: &str, when_busy, not_before| Options {
            key: key.to_owned(),
            attempts: 3,
            when_busy,
            not_before,
            backoff: Some(1000),
            finally: Some("after".to_owned()),
        };
        let progress = Progress { done: 1, total: None, phase: String::new() };
        self.say("report", jobs::report(&progress).is_err());
        self.fail("get none", jobs::get("none"));
        let id = jobs::start("count", b"fail", &options("one", WhenBusy::Queue, None))?;
        let tomorrow = Some(environment::now() + DAY);
        let later = jobs::start("count", b"", &options("two", WhenBusy::Queue, tomorrow))?;
        let busy = options("two", WhenBusy::Refuse, tomorrow);
        self.say("start busy", matches!(jobs::start("count", b"", &busy), Err(Failure::Busy(_))));
        for when_busy in [WhenBusy::Join, WhenBusy::JoinQueued] {
            let joined = jobs::start("count", b"", &options("two", when_busy, tomorrow))?;
            self.say("start joined", joined == later);
        }
        let waiting = jobs::get(&later)?;
        self.say("get queued", (waiting.state == State::Queued, waiting.next == tomorrow));
        self.say("withdraw", jobs::withdraw(&later)?);
        self.say("cancel", jobs::cancel(&later)?);
        self.headers.push(("x-job".to_owned(), id));
        Ok(())
    }

    pub(crate) fn lengths(&mut self) -> Result<(), Failure> {
        let abc = || Body::from_bytes(b"abc");
        self.say("verified", pipes::verified(abc(), ABC)?.read(100)?);
        self.fail("verified wrong", pipes::verified(Body::from_bytes(b"abd"), ABC)?.read(100));
        self.fail("verified by nothing", pipes::verified(abc(), "abc"));
        let (checksum, body) = Checksum::attach(abc());
        let before = checksum.xxh3();
        self.say("checksum", (before, body.read(100)?, body.read(100)?, checksum.xxh3()));
        self.say("checked", pipes::checked(abc(), ABC_XXH3)?.read(100)?);
        self.fail("checked wrong", pipes::checked(Body::from_bytes(b"abd"), ABC_XXH3)?.read(100));
        self.fail("checked by nothing", pipes::checked(abc(), "abc"));
        self.say("limit", pipes::limit(abc(), 3).read(100)?);
        self.fail("limit over", pipes::limit(abc(), 2).read(100));
        let same = pipes::exactly(abc(), 3);
        self.say("exactly", (same.length(), same.read(100)?));
        self.fail("exactly over", pipes::exactly(abc(), 2).read(100));
        let short = pipes::exactly(abc(), 4);
        self.say("exactly short", short.read(100)?);
        self.fail("exactly short", short.read(100));
        let joined = pipes::join(vec![abc(), Body::from_bytes(b""), Body::from_bytes(b"de")])?;
        self.say("join", (joined.length(), joined.read(100)?, joined.read(100)?));
        let many = (0..1001).map(|_| Body::from_bytes(b"")).collect();
        self.fail("join many", pipes::join(many));
        Ok(())
    }

    pub(crate) fn topics(&mut self) -> Result<(), Failure> {
        self.say("publish to nobody", topics::publish("one", b"0")?);
        let (news, other) = (Subscription::open("one")?, Subscription::open("two")?);
        self.say("publish", (topics::publish("one", b"1")?, topics::publish("one", b"2")?));
        self.say("next", (news.next(1000), news.next(0), news.next(0), news.next(1)));
        self.say("next other", other.next(1));
        drop(other);
        self.say("publish to dropped", topics::publish("two", b"3")?);
        for number in 0..=64 {
            topics::publish("one", &[number])?;
        }
        self.say("next missed", (news.next(0), news.next(0)));
        let rest = std::iter::from_fn(|| Some(news.next(0)));
        let rest = rest.take_while(|news| matches!(news, News::Message(_)));
        self.say("next after missed", rest.count());
        let large = vec![0; 65536];
        let reached = (0..17).map(|_| topics::publish("one", &large));
        self.say("publish large", reached.sum::<Result<u32, _>>()?);
        let (missed, came) = (news.next(0), (0..17).map(|_| news.next(0)));
        let came = came.filter(|news| matches!(news, News::Message(_))).count();
        self.say("next large", (missed, came));
        self.fail("publish larger", topics::publish("one", &[0; 65537]));
        for (what, topic) in [("nothing", String::new()), ("long", "x".repeat(257))] {
            self.fail(&format!("publish {what}"), topics::publish(&topic, b""));
            self.fail(&format!("open {what}"), Subscription::open(&topic));
        }
        let mut open = Vec::new();
        let refused = loop {
            match Subscription::open("one") {
                Ok(subscription) => open.push(subscription),
                Err(failure) => break failure,
            }
        };
        self.fail::<()>("open many", Err(refused));
        drop(open);
        self.say("open again", Subscription::open("one").is_ok());
        Ok(())
    }

    pub(crate) fn turns(&mut self) -> Result<(), Failure> {
        let turn = Turn::take("one", 0)?;
        self.fail("take taken", Turn::take("one", 1));
        self.say("take other", Turn::take("two", 0).is_ok());
        drop(turn);
        self.say("take again", Turn::take("one", 0).is_ok());
        self.fail("take nothing", Turn::take("", 0));
        self.fail("take long", Turn::take(&"x".repeat(257), 0));
        Ok(())
    }

    pub(crate) fn inform(&mut self) -> Result<(), Failure> {
        let head = |status, name: &str| Head {
            status,
            headers: vec![(name.to_owned(), "/later".to_owned())],
        };
        self.say("inform", http::inform(&head(104, "location"))?);
        self.fail("inform final", http::inform(&head(200, "location")));
        self.fail("inform switching", http::inform(&head(101, "location")));
        self.fail("inform bad header", http::inform(&head(103, "a b")));
        Ok(())
    }

    /// The request's body, verified on its way.
    pub(crate) fn damaged(&mut self, body: Body) -> Result<Body, Failure> {
        let options = |key: &str| Options {
            key: key.to_owned(),
            attempts: 1,
            when_busy: WhenBusy::Queue,
            not_before: None,
            backoff: None,
            finally: None,
        };
        let (other, long) = (Body::from_bytes(b""), Body::from_bytes(b""));
        let unknown = jobs::start_on_mismatch(other, "unknown", b"", &options(""));
        let long = jobs::start_on_mismatch(long, "count", b"", &options(&"x".repeat(257)));
        match (unknown, long) {
            (Err(Failure::Invalid(_)), Err(Failure::Invalid(_))) => {}
            _ => return Err(Failure::Internal("a job that makes no sense was taken".to_owned())),
        }
        let verified = pipes::verified(body, ABC)?;
        jobs::start_on_mismatch(verified, "count", b"damaged", &options("damaged"))
    }
}
