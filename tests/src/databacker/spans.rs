//! The spans of one run, as the client makes them: a trace of its own for the start, and one for the run. A span is sent
//! once it has ended, so children come before their parents, and the root `run` comes last.

use std::time::{Duration, SystemTime};

use super::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span, Status, attribute,
};
use super::{random, uuid};

const INTERNAL: i32 = 1;
const OK: i32 = 1;
const ERROR: i32 = 2;
/// Sampled, and of this program.
const FLAGS: u32 = 0x101;

/// What a run did.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the client calls it: `backup.run_id`.
    pub id: String,
    /// The database server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// The databases that were dumped.
    pub databases: Vec<String>,
    /// Where the dump was written to.
    pub targets: Vec<Target>,
    /// Why the dump failed, if it did; then nothing was written.
    pub failure: Option<String>,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// A target of a run.
#[derive(Clone, Debug)]
pub struct Target {
    /// `file`, `s3` or `smb`.
    pub kind: String,
    /// Where it is.
    pub url: String,
    /// How much was written.
    pub bytes: u64,
}

impl Run {
    /// A run that dumps one database into a folder.
    pub fn example(bytes: u64) -> Self {
        let url = "file:///var/backups".to_owned();
        Self {
            id: uuid(),
            server: "127.0.0.1".to_owned(),
            port: 3306,
            databases: vec!["shop".to_owned()],
            targets: vec![Target { kind: "file".to_owned(), url, bytes }],
            failure: None,
            start: SystemTime::now(),
            took: Duration::from_millis(200),
        }
    }

    /// The same, which fails.
    #[must_use]
    pub fn failing(mut self, why: &str) -> Self {
        self.failure = Some(why.to_owned());
        self
    }

    /// What was written to all targets.
    pub fn bytes(&self) -> u64 {
        self.targets.iter().map(|target| target.bytes).sum()
    }

    /// Its spans, in the order in which they ended. They have new ids each time; to send some again, keep them.
    pub fn spans(&self) -> Vec<Span> {
        let mut trace = Trace { run: self, id: random(), spans: Vec::new() };
        trace.write();
        trace.spans
    }

    /// The same as the client sends them over time: what has ended in the middle of the run, at its end, and the root.
    pub fn batches(&self) -> [Vec<Span>; 3] {
        let mut first = self.spans();
        let root = first.split_off(first.len() - 1);
        let second = first.split_off(first.len() / 2);
        [first, second, root]
    }
}

/// The trace of a program's start.
pub fn startup(start: SystemTime) -> Span {
    Span {
        trace_id: random::<16>().to_vec(),
        span_id: random::<8>().to_vec(),
        name: "startup".to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: nanoseconds(start),
        end_time_unix_nano: nanoseconds(start + Duration::from_millis(1)),
        flags: FLAGS,
        ..Span::default()
    }
}

/// The body of a POST with these spans.
pub fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let attributes = [
        ("service.name", "unknown_service:mysql-backup"),
        ("telemetry.sdk.language", "go"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.43.0"),
    ];
    let attributes = attributes.map(|(key, value)| attribute(key, value)).to_vec();
    let scope = InstrumentationScope { name: "dump".to_owned(), ..InstrumentationScope::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// Collects the spans of a run. Times are tenths of it.
struct Trace<'a> {
    run: &'a Run,
    id: [u8; 16],
    spans: Vec<Span>,
}

impl Trace<'_> {
    fn write(&mut self) {
        let (root, dump): ([u8; 8], [u8; 8]) = (random(), random());
        let failure = self.run.failure.clone();
        let ended = failure.as_deref().map_or(Ok("completed"), Err);
        self.end("pre-backup", random(), &dump, (1, 2), vec![], None);
        self.end("database_dump", random(), &dump, (2, 5), self.databases(), Some(ended));
        if failure.is_none() {
            self.end("output_tar", random(), &dump, (5, 6), vec![], Some(ended));
            self.end("post-backup", random(), &dump, (6, 7), vec![], None);
            let upload = random();
            for target in self.run.targets.clone() {
                let attributes = vec![
                    attribute("backup.target.type", &*target.kind),
                    attribute("backup.target.url", &*target.url),
                    attribute("backup.bytes", i64::try_from(target.bytes).unwrap()),
                ];
                self.end("upload", random(), &upload, (7, 8), attributes, Some(ended));
            }
            self.end("upload", upload, &dump, (7, 9), vec![], Some(ended));
        }
        let mut attributes = self.databases();
        attributes.push(attribute("provided-schemas", true));
        attributes.push(attribute("actual-schemas", &self.run.databases[..]));
        self.end("dump", dump, &root, (1, 9), attributes, None);
        self.end_root(root);
    }

    fn end_root(&mut self, root: [u8; 8]) {
        let run = self.run;
        let (status, code) = if run.failure.is_none() { ("ok", 0) } else { ("error", 1) };
        let mut attributes = vec![
            attribute("backup.run_id", &*run.id),
            attribute("db.system", "mysql"),
            attribute("network.transport", "tcp"),
            attribute("server.address", &*run.server),
            attribute("server.port", i64::from(run.port)),
        ];
        attributes.extend(self.selection());
        attributes.push(attribute("backup.status", status));
        attributes.push(attribute("backup.exit_code", code));
        if run.failure.is_none() {
            attributes.push(attribute("backup.bytes", i64::try_from(run.bytes()).unwrap()));
        }
        let failed = run.failure.as_ref().map(|why| format!("error running dump: {why}"));
        let ended = failed.as_deref().map_or(Ok("dump complete"), Err);
        self.end("run", root, &[], (0, 10), attributes, Some(ended));
    }

    fn selection(&self) -> [KeyValue; 2] {
        let identity = format!("mysql:include::{}", self.run.databases.join(":"));
        [
            attribute("backup.protected_target.selection_mode", "include"),
            attribute("backup.protected_target.identity", &*identity),
        ]
    }

    /// The databases, which the client writes as a text in JSON.
    fn databases(&self) -> Vec<KeyValue> {
        let mut attributes = self.selection().to_vec();
        let databases = &self.run.databases;
        let list = serde_json::to_string(databases).unwrap();
        let count = i64::try_from(databases.len()).unwrap();
        attributes.push(attribute("backup.protected_target.database_count", count));
        attributes.push(attribute("backup.protected_target.databases", &*list));
        attributes
    }

    fn end(
        &mut self,
        name: &str,
        id: [u8; 8],
        parent: &[u8],
        (from, to): (u32, u32),
        attributes: Vec<KeyValue>,
        status: Option<Result<&str, &str>>,
    ) {
        let at = |tenths: u32| nanoseconds(self.run.start + self.run.took * tenths / 10);
        // The SDK keeps messages of failures only.
        let status = status.map(|status| match status {
            Ok(_) => Status { message: String::new(), code: OK },
            Err(why) => Status { message: why.to_owned(), code: ERROR },
        });
        self.spans.push(Span {
            trace_id: self.id.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.to_vec(),
            name: name.to_owned(),
            kind: INTERNAL,
            start_time_unix_nano: at(from),
            end_time_unix_nano: at(to),
            attributes,
            status: Some(status.unwrap_or_default()),
            flags: FLAGS,
            ..Span::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_root_comes_last_and_alone_has_the_runs_id() {
        for run in [Run::example(7), Run::example(7).failing("Access denied")] {
            let spans = run.spans();
            let has_id = |span: &Span| span.attributes.iter().any(|one| one.key == "backup.run_id");
            let (root, others) = spans.split_last().unwrap();
            assert!(root.name == "run" && has_id(root) && root.parent_span_id.is_empty());
            for (at, span) in others.iter().enumerate() {
                assert!(!has_id(span) && span.trace_id == root.trace_id);
                let parent = spans.iter().position(|one| one.span_id == span.parent_span_id);
                assert!(parent.unwrap() > at, "{} came after its parent", span.name);
            }
            let batches = run.batches();
            assert!(batches.iter().all(|batch| !batch.is_empty()));
            assert_eq!(batches[2][0].name, "run");
        }
    }

    #[test]
    fn messages_have_the_numbers_of_the_standard() {
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "run".to_owned(),
            kind: INTERNAL,
            start_time_unix_nano: 3,
            end_time_unix_nano: 4,
            attributes: vec![attribute("backup.bytes", 5)],
            status: Some(Status { message: "x".to_owned(), code: ERROR }),
            flags: FLAGS,
            ..Span::default()
        };
        let expected = "0a10010101010101010101010101010101011208020202020202020\
                        22a0372756e3001390300000000000000410400000000000000\
                        4a120a0c6261636b75702e627974657312021805\
                        7a05120178180285010101000 0"
            .replace(' ', "");
        assert_eq!(hex::encode(span.encode_to_vec()), expected);
    }
}
