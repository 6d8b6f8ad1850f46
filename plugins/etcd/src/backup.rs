//! The job: a snapshot of one member, compressed while it streams into the store, then the sidecar, then
//! retention. A backup is only listed when all its bytes are durable and verified.

use keepgate_sdk::etcd::{self, Snapshot};
use keepgate_sdk::jobs::{Job, report_progress};
use keepgate_sdk::pipes::{self, Meter};
use keepgate_sdk::{
    Failure, PutOptions, Store, TimeName, Timestamp, environment, jobs, json, sidecar,
};
use serde::{Deserialize, Serialize};

use crate::layout::Cluster;
use crate::settings::{Format, Settings};
use crate::sidecar::Facts;
use crate::{metrics, name, reply, retention};

/// The kind of job, as schedules name it.
pub(crate) const KIND: &str = "backup";
/// How many names other gateways may take first. Each costs another snapshot.
const COLLISIONS: usize = 5;
/// Only the gateway's user can read the file that is extracted from the archive.
const MODE: u32 = 0o600;

/// The input of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) cluster: Cluster,
}

impl Input {
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Failure> {
        jobs::input(KIND, input)
    }
}

/// The key of a job that a schedule starts: jobs of one cluster run one after another.
pub(crate) fn key(input: &[u8]) -> Result<String, String> {
    let Input { cluster } = Input::parse(input).map_err(|failure| failure.message().to_owned())?;
    etcd::require(cluster.name()).map_err(|refused| refused.message().to_owned())?;
    Ok(cluster.name().to_owned())
}

/// The output of a job, which is also the response to a POST.
#[derive(Serialize)]
struct Answer<'a> {
    message: &'a str,
    filename: &'a str,
    /// Size of the stored file in bytes.
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

/// Runs one attempt of a job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let Input { cluster } = Input::parse(&job.input)?;
    let (store, format, level) = (Store::open("main")?, settings.format, settings.level());
    let backup = Backup { store: &store, cluster: &cluster, format, level };
    let (name, facts) = backup.make().inspect_err(|_| metrics::not_saved(cluster.name()))?;
    metrics::saved(cluster.name(), facts.filesize, facts.snapshot_size);
    let key = cluster.file(&name);
    let source = format!("revision {} of {}", facts.revision, facts.endpoint);
    let size = facts.filesize;
    environment::info("backup stored", &[("file", &key), ("size", &size), ("source", &source)]);

    let mut warnings = Vec::new();
    // The backup is stored, and its name alone makes it a backup.
    if let Err(failure) = sidecar::write(&store, &cluster.sidecar(&name), &facts) {
        warnings.push(format!("what is known of it was not kept: {}", failure.message()));
    }
    report_progress("rotating", facts.snapshot_size, Some(facts.snapshot_size));
    warnings.extend(retention::apply(&store, &cluster, &settings.policy(), &name));
    for warning in &warnings {
        environment::warn(warning, &[("file", &key)]);
    }
    json::to_vec(&Answer {
        message: reply::SAVED,
        filename: &facts.filename,
        filesize: facts.filesize,
        sha256: &facts.sha256,
        snapshot_size: facts.snapshot_size,
        snapshot_sha256: &facts.snapshot_sha256,
        revision: facts.revision,
        keys: facts.keys,
        cluster: facts.cluster.name(),
        endpoint: &facts.endpoint,
        etcd_version: &facts.etcd_version,
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
    })
}

/// A backup to make.
struct Backup<'a> {
    store: &'a Store,
    cluster: &'a Cluster,
    format: Format,
    level: u8,
}

impl Backup<'_> {
    /// Asks one member after another, each at most once, until one has sent a complete snapshot.
    fn make(&self) -> Result<(TimeName, Facts), Failure> {
        let (mut asked, mut reasons): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut taken: Vec<TimeName> = Vec::new();
        loop {
            report_progress("connecting", 0, None);
            let begun = Timestamp::now();
            let snapshot = match Snapshot::take(self.cluster.name(), &asked) {
                Err(Failure::Unavailable(why)) => {
                    reasons.push(why);
                    return Err(Failure::Unavailable(reasons.join("; ")));
                }
                snapshot => snapshot?,
            };
            let endpoint = snapshot.facts().endpoint;
            let name = self.free_name(begun, &taken)?;
            match self.save(&snapshot, &name, begun) {
                // The bytes of this snapshot are used up.
                Err(Failure::AlreadyExists) if taken.len() < COLLISIONS => taken.push(name),
                Err(failure) if is_of_member(&snapshot, &failure) && !asked.contains(&endpoint) => {
                    let mut why = failure.message().to_owned();
                    if !why.contains(&endpoint) {
                        why = format!("{endpoint}: {why}");
                    }
                    environment::count(metrics::BROKEN_OFF, &[self.cluster.name()], 1);
                    environment::warn(&format!("{why}; asking another member"), &[]);
                    asked.push(endpoint);
                    reasons.push(why);
                }
                saved => return saved.map(|facts| (name, facts)),
            }
        }
    }

    /// A name for a backup that began now. `taken` has names that turned out to be taken.
    fn free_name(&self, begun: Timestamp, taken: &[TimeName]) -> Result<TimeName, Failure> {
        let contents = self.cluster.contents(self.store)?;
        let files = contents.files.iter().map(|file| &file.name);
        let there = files.chain(&contents.index).chain(taken);
        let full =
            || Failure::Busy("all names of this second are taken; try again later".to_owned());
        name::FORM.next(begun, self.format.extension(), there).ok_or_else(full)
    }

    /// Streams a snapshot into the store.
    fn save(
        &self,
        snapshot: &Snapshot,
        name: &TimeName,
        begun: Timestamp,
    ) -> Result<Facts, Failure> {
        let facts = snapshot.facts();
        report_progress("saving", 0, Some(facts.size));
        let data = snapshot.data()?;
        let plain = match self.format {
            Format::DbGz => data,
            Format::TarGz => pipes::tar(vec![pipes::Entry {
                path: format!("{}.db", name.stem()),
                size: facts.size,
                mode: MODE,
                modified: begun.0,
                data,
            }])?,
        };
        let (meter, compressed) = Meter::attach(pipes::gzip(plain, self.level)?);
        let key = self.cluster.file(name);
        let info = self.store.put(&key, compressed, &PutOptions::absent())?.info;
        // Both are known once all bytes have been read and verified, which `put` has done.
        let (Some(sum), Some(snapshot_sha256)) = (meter.sum(), snapshot.sha256()) else {
            self.store.delete_matching(&key, &info.etag)?;
            return Err(Failure::Internal(format!("{name} was stored without being verified")));
        };
        Ok(Facts {
            filename: name.to_string(),
            filesize: info.size,
            sha256: sum.sha256,
            snapshot_size: facts.size,
            snapshot_sha256,
            created: begun,
            duration_ms: environment::now().saturating_sub(begun.0) / 1_000_000,
            format: self.format,
            cluster: self.cluster.clone(),
            cluster_id: format!("{:x}", facts.cluster_id),
            member_id: format!("{:x}", facts.member_id),
            endpoint: facts.endpoint,
            etcd_version: facts.version,
            revision: facts.revision,
            keys: facts.keys,
        })
    }
}

/// Whether another member may succeed: this one's bytes were incomplete or wrong.
fn is_of_member(snapshot: &Snapshot, failure: &Failure) -> bool {
    matches!(failure, Failure::Unavailable(_) | Failure::Truncated | Failure::Invalid(_))
        && snapshot.sha256().is_none()
}
