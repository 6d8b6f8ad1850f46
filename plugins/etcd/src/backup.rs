//! The job: a snapshot of one member, compressed on its way into the store, then what is known of it
//! beside it, then rotation. A backup is in the list when all its bytes are durable and right, and
//! not before.

use keepgate_sdk::etcd::{self, Facts, Snapshot};
use keepgate_sdk::jobs::{Job, Progress};
use keepgate_sdk::pipes::{self, Meter};
use keepgate_sdk::{Failure, Level, PutOptions, Store, environment, jobs};
use serde::{Deserialize, Serialize};

use crate::name::{Name, rfc3339};
use crate::place::Place;
use crate::settings::{Format, Settings};
use crate::{metrics, reply, rotate, sidecar};

/// The kind of job, as schedules name it.
pub(crate) const KIND: &str = "backup";
/// How many names other gateways may take first; each costs another snapshot.
const COLLISIONS: usize = 5;
/// Only the gateway's user reads what comes out of the archive.
const MODE: u32 = 0o600;

/// What a job is started with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) cluster: String,
}

impl Default for Input {
    fn default() -> Self {
        Self { cluster: Place::main().cluster().to_owned() }
    }
}

impl Input {
    /// A job without input is one of the cluster `main`.
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Failure> {
        if input.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(input).map_err(|error| {
            let advice = "write `input = { cluster = \"main\" }`, say";
            Failure::Invalid(format!("the input of a backup job: {error}; {advice}"))
        })
    }

    fn place(&self) -> Result<Place, Failure> {
        let refused = || Failure::Invalid(format!("no cluster can be named {:?}", self.cluster));
        Place::of(&self.cluster).ok_or_else(refused)
    }
}

/// The key of a job that a schedule starts: jobs of one cluster run one after another.
pub(crate) fn key(kind: &str, input: &[u8]) -> Result<String, String> {
    if kind != KIND {
        return Err(format!("there are no jobs of the kind {kind:?}; write {KIND:?}"));
    }
    let input = Input::parse(input).map_err(|failure| failure.message().to_owned())?;
    let clusters = etcd::clusters();
    if clusters.contains(&input.cluster) {
        return Ok(input.cluster);
    }
    Err(format!(
        "the mount grants no cluster named {:?}; its `etcd` has: {}",
        input.cluster,
        if clusters.is_empty() { "none".to_owned() } else { clusters.join(", ") }
    ))
}

/// What a job ends with, and a POST says.
#[derive(Serialize)]
struct Answer<'a> {
    message: &'a str,
    filename: &'a str,
    /// Bytes of the stored file.
    filesize: u64,
    sha256: &'a str,
    snapshot_size: u64,
    snapshot_sha256: &'a str,
    revision: i64,
    keys: Option<u64>,
    cluster: &'a str,
    endpoint: &'a str,
    etcd_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// A backup that is in the store.
struct Stored {
    name: Name,
    size: u64,
    sha256: String,
    snapshot: Facts,
    snapshot_sha256: String,
    /// Nanoseconds since the Unix epoch.
    begun: u64,
}

/// Runs one attempt of a job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let place = Input::parse(&job.input)?.place()?;
    let policy = settings.policy().map_err(Failure::Internal)?;
    let store = Store::open("main")?;
    let stored =
        save(&store, &place, settings).inspect_err(|_| metrics::not_saved(place.cluster()))?;
    metrics::saved(place.cluster(), stored.size, stored.snapshot.size);
    let told = format!(
        "{}: {} bytes, revision {} of {}",
        place.file(&stored.name),
        stored.size,
        stored.snapshot.revision,
        stored.snapshot.endpoint
    );
    environment::log(Level::Info, &told);

    let mut warnings = Vec::new();
    // The backup is there, and can be told as one by its name alone.
    if let Err(failure) = describe(&store, &place, &stored, settings.format) {
        warnings.push(format!("what is known of it was not kept: {}", failure.message()));
    }
    report("rotating", stored.snapshot.size, Some(stored.snapshot.size));
    warnings.extend(rotate::rotate(&store, &place, &policy, &stored.name));
    for warning in &warnings {
        environment::log(Level::Warn, &format!("{}: {warning}", place.file(&stored.name)));
    }
    let answer = Answer {
        message: reply::SAVED,
        filename: stored.name.as_str(),
        filesize: stored.size,
        sha256: &stored.sha256,
        snapshot_size: stored.snapshot.size,
        snapshot_sha256: &stored.snapshot_sha256,
        revision: stored.snapshot.revision,
        keys: stored.snapshot.keys,
        cluster: place.cluster(),
        endpoint: &stored.snapshot.endpoint,
        etcd_version: &stored.snapshot.version,
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
    };
    serde_json::to_vec(&answer).map_err(|error| Failure::Internal(error.to_string()))
}

/// Asks one member after another, each once at most, until one has sent all of a snapshot.
fn save(store: &Store, place: &Place, settings: &Settings) -> Result<Stored, Failure> {
    let level = settings.level().map_err(Failure::Internal)?;
    let (mut asked, mut reasons): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut taken: Vec<Name> = Vec::new();
    loop {
        report("connecting", 0, None);
        let begun = environment::now();
        let snapshot = match Snapshot::take(place.cluster(), &asked) {
            Err(Failure::Unavailable(why)) => {
                reasons.push(why);
                return Err(Failure::Unavailable(reasons.join("; ")));
            }
            snapshot => snapshot?,
        };
        let endpoint = snapshot.facts().endpoint;
        let name = free_name(store, place, begun, settings.format, &taken)?;
        let stored = store_snapshot(store, place, &snapshot, &name, settings.format, level, begun);
        match stored {
            // Its bytes have been given away by now.
            Err(Failure::AlreadyExists) if taken.len() < COLLISIONS => taken.push(name),
            Err(failure) if is_of_member(&snapshot, &failure) && !asked.contains(&endpoint) => {
                let mut why = failure.message().to_owned();
                if !why.contains(&endpoint) {
                    why = format!("{endpoint}: {why}");
                }
                metrics::broken_off(place.cluster());
                environment::log(Level::Warn, &format!("{why}; asking another member"));
                asked.push(endpoint);
                reasons.push(why);
            }
            stored => return stored,
        }
    }
}

/// Whether another member may do better: this one's bytes have not come to a good end.
fn is_of_member(snapshot: &Snapshot, failure: &Failure) -> bool {
    let told =
        matches!(failure, Failure::Unavailable(_) | Failure::Truncated | Failure::Invalid(_));
    told && snapshot.sha256().is_none()
}

/// Streams a snapshot into the store.
fn store_snapshot(
    store: &Store,
    place: &Place,
    snapshot: &Snapshot,
    name: &Name,
    format: Format,
    level: u8,
    begun: u64,
) -> Result<Stored, Failure> {
    let facts = snapshot.facts();
    report("saving", 0, Some(facts.size));
    let data = snapshot.data()?;
    let plain = match format {
        Format::DbGz => data,
        Format::TarGz => pipes::tar(vec![pipes::Entry {
            path: format!("{}.db", name.stem()),
            size: facts.size,
            mode: MODE,
            modified: begun,
            data,
        }])?,
    };
    let (meter, compressed) = Meter::attach(pipes::gzip(plain, level)?);
    let info = store.put(&place.file(name), compressed, &PutOptions::absent())?.info;
    // Both are known once all bytes have passed and were found right, and `put` has seen them all.
    let (Some(sum), Some(snapshot_sha256)) = (meter.sum(), snapshot.sha256()) else {
        store.delete_matching(&place.file(name), &info.etag)?;
        return Err(Failure::Internal(format!("{name} was stored without having been verified")));
    };
    let (name, size, sha256) = (name.clone(), info.size, sum.sha256);
    Ok(Stored { name, size, sha256, snapshot: facts, snapshot_sha256, begun })
}

/// A name for a backup begun now. `taken` are names that looked free.
fn free_name(
    store: &Store,
    place: &Place,
    begun: u64,
    format: Format,
    taken: &[Name],
) -> Result<Name, Failure> {
    let contents = place.contents(store)?;
    let files = contents.files.iter().map(|file| &file.name);
    let there = files.chain(&contents.index).chain(taken);
    let full = || Failure::Busy("all names of this second are taken; try again later".to_owned());
    Name::next(begun, format, &there).ok_or_else(full)
}

/// Writes the sidecar.
fn describe(store: &Store, place: &Place, stored: &Stored, format: Format) -> Result<(), Failure> {
    let snapshot = &stored.snapshot;
    let facts = sidecar::Facts {
        filename: stored.name.as_str(),
        filesize: stored.size,
        sha256: &stored.sha256,
        snapshot_size: snapshot.size,
        snapshot_sha256: &stored.snapshot_sha256,
        created: rfc3339(stored.begun),
        duration_ms: environment::now().saturating_sub(stored.begun) / 1_000_000,
        format: format.name(),
        cluster: place.cluster(),
        cluster_id: format!("{:x}", snapshot.cluster_id),
        member_id: format!("{:x}", snapshot.member_id),
        endpoint: &snapshot.endpoint,
        etcd_version: &snapshot.version,
        revision: snapshot.revision,
        keys: snapshot.keys,
    };
    sidecar::write(store, &place.sidecar(&stored.name), &facts)
}

/// Tells operators how far it is. A backup does not fail because nobody could be told.
fn report(phase: &str, done: u64, total: Option<u64>) {
    let progress = Progress { done, total, phase: phase.to_owned() };
    if let Err(failure) = jobs::report(&progress) {
        environment::log(Level::Debug, &format!("progress {phase:?}: {}", failure.message()));
    }
}
