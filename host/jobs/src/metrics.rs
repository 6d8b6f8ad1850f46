//! Metrics of jobs and schedules for Prometheus, enough for alerts. The state machine updates the
//! values after each change, so collecting them never waits for a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use crate::Jobs;
use crate::history::{History, Key, Success};
use crate::job::{Job, State};
use crate::schedule::ScheduleStatus;

/// Mount and kind.
type Kind = (String, String);

/// The values of the metrics.
#[derive(Debug, Default)]
pub(crate) struct MetricValues {
    /// Queued and running jobs, by every kind that has existed.
    live: BTreeMap<Kind, [u32; 2]>,
    /// Queued jobs with a time before which they do not begin.
    delayed: BTreeMap<Kind, u32>,
    /// Since the process started, by outcome.
    ended: BTreeMap<(Kind, State), u64>,
    /// Since the process started.
    retries: BTreeMap<Kind, u64>,
    newest: BTreeMap<Key, (SystemTime, Duration)>,
    schedules: Vec<ScheduleStatus>,
}

impl MetricValues {
    /// Counts a job that ended.
    pub(crate) fn ended(&mut self, job: &Job) {
        *self.ended.entry((kind_of(job), job.state)).or_default() += 1;
    }

    /// Counts a failed attempt after which the job is retried.
    pub(crate) fn retried(&mut self, job: &Job) {
        *self.retries.entry(kind_of(job)).or_default() += 1;
    }

    /// Sets everything that is not a counter.
    pub(crate) fn set<'a>(
        &mut self,
        live: impl Iterator<Item = &'a Job>,
        history: &History,
        schedules: Vec<ScheduleStatus>,
    ) {
        self.live.values_mut().for_each(|counts| *counts = [0, 0]);
        self.delayed.clear();
        for (mount, kind) in history.kinds().collect::<BTreeSet<_>>() {
            self.live.entry((mount.to_owned(), kind.to_owned())).or_default();
        }
        for job in live {
            let [queued, running] = self.live.entry(kind_of(job)).or_default();
            *if job.state == State::Running { running } else { queued } += 1;
            *self.delayed.entry(kind_of(job)).or_default() += u32::from(job.next_attempt.is_some());
        }
        let newest =
            |(key, success): (&Key, &Success)| (key.clone(), (success.ended, success.took));
        self.newest = history.newest().iter().map(newest).collect();
        self.schedules = schedules;
    }

    fn families(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let all = MetricFamilies::new()?;
        for ((mount, kind), [queued, running]) in &self.live {
            let counts = [(State::Queued, queued), (State::Running, running)];
            for (state, count) in counts {
                let labels = [mount.as_str(), kind, state.as_str()];
                all.live.with_label_values(&labels).set(f64::from(*count));
            }
            let delayed = self.delayed.get(&(mount.clone(), kind.clone())).copied();
            let series = all.delayed.with_label_values(&[mount.as_str(), kind]);
            series.set(f64::from(delayed.unwrap_or_default()));
            for state in [State::Succeeded, State::Failed, State::Cancelled] {
                let count = self.ended.get(&((mount.clone(), kind.clone()), state));
                let labels = [mount.as_str(), kind, state.as_str()];
                all.ended.with_label_values(&labels).inc_by(count.copied().unwrap_or_default());
            }
            let retries = self.retries.get(&(mount.clone(), kind.clone()));
            let series = all.retries.with_label_values(&[mount.as_str(), kind]);
            series.inc_by(retries.copied().unwrap_or_default());
        }
        for ((mount, kind, key), (ended, took)) in &self.newest {
            let labels = [mount.as_str(), kind, key];
            all.success.with_label_values(&labels).set(seconds(Some(*ended)));
            all.duration.with_label_values(&labels).set(took.as_secs_f64());
        }
        for schedule in &self.schedules {
            let labels = [schedule.name.as_str()];
            all.schedule_success.with_label_values(&labels).set(seconds(schedule.last_success));
            all.schedule_run.with_label_values(&labels).set(seconds(schedule.last_run));
            all.schedule_next.with_label_values(&labels).set(seconds(schedule.next));
            let failed = schedule.last_outcome == Some(State::Failed);
            all.schedule_failed.with_label_values(&labels).set(if failed { 1.0 } else { 0.0 });
        }
        Ok(all.collectors().into_iter().flat_map(Collector::collect).collect())
    }
}

fn kind_of(job: &Job) -> Kind {
    (job.mount.clone(), job.kind.clone())
}

/// Seconds since 1970; 0 for what never happened, so that an alert on its age fires.
fn seconds(time: Option<SystemTime>) -> f64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs_f64()
}

/// The metrics, without values.
struct MetricFamilies {
    live: GaugeVec,
    delayed: GaugeVec,
    ended: IntCounterVec,
    retries: IntCounterVec,
    success: GaugeVec,
    duration: GaugeVec,
    schedule_success: GaugeVec,
    schedule_run: GaugeVec,
    schedule_next: GaugeVec,
    schedule_failed: GaugeVec,
}

impl MetricFamilies {
    fn new() -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        Ok(Self {
            live: gauge(
                "keepgate_jobs",
                "Jobs that are queued or running.",
                &["mount", "kind", "state"],
            )?,
            delayed: gauge(
                "keepgate_jobs_delayed",
                "Queued jobs that wait for a time: for a delayed first attempt, or for another one.",
                &["mount", "kind"],
            )?,
            ended: counter(
                "keepgate_jobs_total",
                "Jobs that ended since the gateway started.",
                &["mount", "kind", "outcome"],
            )?,
            retries: counter(
                "keepgate_job_retries_total",
                "Failed attempts after which a job was retried, since the gateway started.",
                &["mount", "kind"],
            )?,
            success: gauge(
                "keepgate_job_last_success_timestamp_seconds",
                "When the newest job of a key that succeeded ended.",
                &["mount", "kind", "key"],
            )?,
            duration: gauge(
                "keepgate_job_last_duration_seconds",
                "How long the newest job of a key that succeeded took, in its last attempt.",
                &["mount", "kind", "key"],
            )?,
            schedule_success: gauge(
                "keepgate_schedule_last_success_timestamp_seconds",
                "When the newest of a schedule's jobs that succeeded ended; 0 if none ever did.",
                &["schedule"],
            )?,
            schedule_run: gauge(
                "keepgate_schedule_last_run_timestamp_seconds",
                "When a schedule last started a job or joined one; 0 if it never did.",
                &["schedule"],
            )?,
            schedule_next: gauge(
                "keepgate_schedule_next_run_timestamp_seconds",
                "When a schedule is to run next.",
                &["schedule"],
            )?,
            schedule_failed: gauge(
                "keepgate_schedule_last_failed",
                "1 if the last of a schedule's jobs that ended failed.",
                &["schedule"],
            )?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 10] {
        [
            &self.live,
            &self.delayed,
            &self.ended,
            &self.retries,
            &self.success,
            &self.duration,
            &self.schedule_success,
            &self.schedule_run,
            &self.schedule_next,
            &self.schedule_failed,
        ]
    }
}

/// A collector of these jobs' metrics, for a registry.
pub fn metrics(jobs: Arc<Jobs>) -> impl Collector {
    let names = MetricFamilies::new().map(|families| {
        let descriptions = families.collectors().into_iter().flat_map(|one| one.desc());
        descriptions.cloned().collect()
    });
    Collected { jobs, names: names.unwrap_or_default() }
}

struct Collected {
    jobs: Arc<Jobs>,
    names: Vec<Desc>,
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.names.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metric_values = self.jobs.metric_values.lock().unwrap_or_else(PoisonError::into_inner);
        metric_values.families().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot collect the metrics of jobs");
            Vec::new()
        })
    }
}
