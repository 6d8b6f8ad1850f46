//! Schedules: a due run is started and the next one planned in one commit, so that no end of the
//! gateway loses a run or makes it twice.

use std::collections::HashSet;
use std::time::SystemTime;

use super::active::ActiveJob;
use super::start::Prepared;
use super::{Changes, JobsError, StateMachine};
use crate::clock::whole_milliseconds;
use crate::error::StartError;
use crate::job::State;
use crate::schedule::{Schedule, ScheduleStatus};

impl StateMachine {
    /// Replaces the schedules; durable when it returns.
    pub(crate) fn set_schedules(
        &mut self,
        schedules: Vec<Schedule>,
        now: SystemTime,
    ) -> Result<(), JobsError> {
        let mut names = HashSet::new();
        for schedule in &schedules {
            let refused =
                |reason: String| JobsError::Schedule { name: schedule.name.clone(), reason };
            schedule.check().map_err(|error| refused(error.to_string()))?;
            if !names.insert(schedule.name.as_str()) {
                return Err(refused("there are two schedules of this name".to_owned()));
            }
        }
        let plans = self.plans.configured(schedules, now, self.options.keep_for);
        let mut changes = Changes::default();
        let (new, gone) = plans.differences(&self.plans);
        for planned in new {
            changes.put_schedule(planned)?;
        }
        gone.into_iter().for_each(|name| changes.remove_schedule(name));
        self.commit(changes)?;
        self.plans = plans;
        self.publish();
        Ok(())
    }

    /// Starts what is due. Call it often, because it also notices when the clock was set back.
    pub(crate) fn start_due(&mut self, now: SystemTime) -> Result<(), JobsError> {
        let went_back = self.asked.is_some_and(|asked| now < asked);
        self.asked = Some(now);
        if went_back {
            for planned in self.plans.brought_forward(now) {
                let mut changes = Changes::default();
                changes.put_schedule(&planned)?;
                self.commit(changes)?;
                self.plans.apply(planned);
            }
        }
        for name in self.plans.due(now) {
            match self.start_schedule(&name, true, now) {
                Ok(_) => {}
                Err(StartError::Jobs(error)) => return Err(error),
                Err(error) => self.record_failed_start(&name, &error, now)?,
            }
        }
        Ok(())
    }

    /// Starts a schedule's job, or finds the job that it joins, either because the run is due or
    /// because an operator asked for it.
    pub(crate) fn start_schedule(
        &mut self,
        name: &str,
        is_planned: bool,
        now: SystemTime,
    ) -> Result<String, StartError> {
        let origin = if is_planned { format!("schedule {name}") } else { "operator".to_owned() };
        let new = match self.plans.get(name) {
            Some(schedule) => schedule.job(origin),
            None => return Err(StartError::UnknownSchedule(name.to_owned())),
        };
        let prepared = self.prepare(new, now)?;
        let mut changes = Changes::default();
        let mut without_delay = None;
        let id = match &prepared {
            Prepared::Joined(id) => {
                without_delay =
                    self.live.get(id).filter(|_| !is_planned).and_then(ActiveJob::without_delay);
                if let Some(record) = &without_delay {
                    changes.put_job(record)?;
                }
                id.clone()
            }
            Prepared::New(record) => {
                changes.put_job(record)?;
                record.job.id.clone()
            }
        };
        let planned = self.plans.ran(name, Some(&id), is_planned, whole_milliseconds(now));
        if let Some(planned) = &planned {
            changes.put_schedule(planned)?;
        }
        if let Err(error) = self.commit(changes) {
            if let Prepared::New(_) = prepared {
                self.uncertain_starts.push(id);
            }
            return Err(error.into());
        }
        planned.into_iter().for_each(|planned| self.plans.apply(planned));
        if let (Some(record), Some(live)) = (without_delay, self.live.get_mut(&id)) {
            live.record = record;
        }
        match prepared {
            Prepared::New(record) => self.enter(*record),
            Prepared::Joined(id) => {
                tracing::info!(schedule = name, job = id, "schedule joined an existing job");
            }
        }
        self.publish();
        Ok(id)
    }

    /// Records a run that could not be started for a permanent reason; it counts as failed.
    fn record_failed_start(
        &mut self,
        name: &str,
        reason: &StartError,
        now: SystemTime,
    ) -> Result<(), JobsError> {
        tracing::error!(schedule = name, error = %reason, "cannot start a schedule's job");
        if let Some(planned) = self.plans.ran(name, None, true, whole_milliseconds(now)) {
            let mut changes = Changes::default();
            changes.put_schedule(&planned)?;
            self.commit(changes)?;
            self.plans.apply(planned);
            self.publish();
        }
        Ok(())
    }

    pub(crate) fn schedules(&self) -> Vec<ScheduleStatus> {
        self.plans.statuses()
    }

    /// When something may become due, if nothing else happens before.
    pub(crate) fn next_due(&self, now: SystemTime) -> Option<SystemTime> {
        let queued = self.live.values().map(|live| &live.record.job);
        let attempts = queued.filter(|job| job.state == State::Queued);
        let attempts = attempts.filter_map(|job| job.next_attempt).filter(|next| *next > now);
        attempts.chain(self.plans.next()).min()
    }
}
