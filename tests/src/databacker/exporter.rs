//! How the client sends spans: one POST for each batch. What the server answers to with 429, 502, 503 or 504 is sent again
//! for a minute; everything else that is no success is dropped, and the backup goes on.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::config::Remote;
use super::otlp::{ExportTraceServiceResponse, Span};
use super::spans::request;
use super::wire::{Answer, Identity, Poster};

/// For how long it sends again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause, which grows by half each time.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The exporter of one program.
#[derive(Debug)]
pub struct Exporter {
    poster: Poster,
    gzip: bool,
    patience: Duration,
}

/// What became of a batch that was not taken.
#[derive(Debug)]
pub enum Dropped {
    /// The server has answered with this.
    Refused(Answer),
    /// It could not be reached, or has gone away. The real client drops the batch as well.
    Lost(io::Error),
}

impl Exporter {
    /// For the `telemetry` of a configuration.
    pub fn new(telemetry: &Remote) -> Self {
        let seed = telemetry.seed().unwrap();
        Self::with(telemetry, &Identity::new(&seed, &telemetry.certificates))
    }

    /// The same, as another client.
    pub fn with(telemetry: &Remote, identity: &Identity) -> Self {
        let mut url = telemetry.url().unwrap();
        if url.path == "/" {
            "/v1/traces".clone_into(&mut url.path);
        }
        Self { poster: Poster::new(&url, identity), gzip: false, patience: PATIENCE }
    }

    /// As with `OTEL_EXPORTER_OTLP_COMPRESSION=gzip`.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Makes it send again for this long at most.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a batch.
    ///
    /// # Errors
    ///
    /// Why it was dropped.
    pub fn export(&mut self, spans: &[Span]) -> Result<Answer, Dropped> {
        self.export_bytes(request(spans.to_vec()).encode_to_vec())
    }

    /// Sends a body, whatever is in it.
    ///
    /// # Errors
    ///
    /// Why it was dropped.
    pub fn export_bytes(&mut self, body: Vec<u8>) -> Result<Answer, Dropped> {
        let mut headers = vec![
            ("content-type", "application/x-protobuf"),
            ("user-agent", "OTel OTLP Exporter Go/1.43.0"),
        ];
        let mut body = body;
        if self.gzip {
            headers.push(("content-encoding", "gzip"));
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&body).unwrap();
            body = encoder.finish().unwrap();
        }
        let end = Instant::now() + self.patience;
        let mut pause = PAUSE;
        loop {
            let answer = self.poster.post(&headers, body.clone()).map_err(Dropped::Lost)?;
            match answer.status {
                200..300 => {
                    // What cannot be parsed is a failure of the exporter, too.
                    ExportTraceServiceResponse::decode(&answer.body[..]).unwrap();
                    return Ok(answer);
                }
                429 | 502..=504 => {}
                _ => return Err(Dropped::Refused(answer)),
            }
            let wanted = answer.retry_after.map_or(pause, Duration::from_secs);
            if Instant::now() + wanted > end {
                return Err(Dropped::Refused(answer));
            }
            thread::sleep(wanted);
            pause = (pause + pause / 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::databacker::otlp::ExportTraceServiceRequest;
    use crate::databacker::seed::Seed;
    use crate::databacker::spans::Run;
    use crate::receiver::Receiver;

    fn telemetry(receiver: &Receiver) -> Remote {
        Remote {
            url: format!("http://127.0.0.1:{}/engines/telemetry/i1/traces?x=1", receiver.port()),
            certificates: Vec::new(),
            credentials: Seed::random().credentials(),
        }
    }

    #[test]
    fn some_answers_make_it_send_again_and_others_drop_the_batch() {
        let receiver = Receiver::start();
        let mut exporter = Exporter::new(&telemetry(&receiver));
        let spans = Run::example(1).spans();
        let again = "503 Service Unavailable\r\nretry-after: 0";
        receiver.answer_next(&[again, again, "429 Too Many Requests\r\nretry-after: 0"]);
        assert_eq!(exporter.export(&spans).unwrap().status, 204);
        let requests = receiver.requests();
        assert_eq!(requests.len(), 4);
        assert!(requests.iter().all(|one| one.body == requests[0].body));
        assert_eq!(requests[0].line, "POST /engines/telemetry/i1/traces HTTP/1.1");
        assert_eq!(requests[0].header("content-type"), Some("application/x-protobuf"));
        assert_eq!(requests[0].header("user-agent"), Some("OTel OTLP Exporter Go/1.43.0"));
        assert_eq!(requests[0].header("content-encoding"), None);

        for status in ["500 Broken", "507 Full", "400 Bad", "404 Missing"] {
            receiver.answer_next(&[status]);
            let Err(Dropped::Refused(answer)) = exporter.export(&spans) else { panic!() };
            assert!(status.starts_with(&answer.status.to_string()));
        }
        receiver.answer_next(&["503 Service Unavailable\r\nretry-after: 61"]);
        let Err(Dropped::Refused(answer)) = exporter.export(&spans) else { panic!() };
        assert_eq!((answer.status, answer.retry_after), (503, Some(61)));
    }

    #[test]
    fn bodies_are_compressed_if_asked_for() {
        let receiver = Receiver::start();
        let mut exporter = Exporter::new(&telemetry(&receiver)).gzip();
        let spans = Run::example(1).spans();
        exporter.export(&spans).unwrap();
        let sent = receiver.requests().remove(0);
        assert_eq!(sent.header("content-encoding"), Some("gzip"));
        let mut body = Vec::new();
        GzDecoder::new(&sent.body[..]).read_to_end(&mut body).unwrap();
        let decoded = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        assert_eq!(decoded, request(spans));
    }
}
