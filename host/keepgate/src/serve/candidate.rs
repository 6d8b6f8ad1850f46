//! A table of mounts that may replace the one that serves: built beside it, validated, and then
//! committed or dropped. Nothing that requests can see changes before the commit.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use keepgate_http::{Metrics, Site, SiteMount};
use keepgate_jobs::Schedule;
use keepgate_runtime::{Generation, Loader};

use super::pages::{Current, Pages};
use crate::assemble::{Assembly, SystemMetrics};
use crate::clock::GatewayClock;
use crate::config::Config;
use crate::config::capability::OwnState;
use crate::copies::{self, Copies};
use crate::schedules;

/// A configuration and what it names, opened.
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) assembly: Assembly,
}

/// What requests and the operators' pages see.
pub(super) struct Published {
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) metrics: Arc<Metrics>,
    /// The metrics of plugins.
    pub(super) plugins: Arc<keepgate_runtime::Metrics>,
    pub(super) pages: Pages,
    pub(super) own: OwnState,
    pub(super) systems: SystemMetrics,
}

/// See the module.
pub(super) struct Candidate {
    generation: Generation,
    site: Site,
    schedules: Vec<Schedule>,
    copies: Copies,
    /// Schedules whose jobs would fail, and why.
    schedule_problems: Vec<String>,
}

impl Candidate {
    /// Builds the mounts of a configuration with the plugins that are loaded.
    pub(super) async fn build(
        configuration: &mut Configuration,
        loader: &Loader,
        published: &Published,
    ) -> Result<Self> {
        let Configuration { config, assembly } = configuration;
        let (plans, unmounted) = assembly.plans(&loader.plugins());
        let specs: Vec<_> = plans.iter().map(|plan| plan.spec.clone()).collect();
        let mut generation = loader.build(&specs).await;
        generation.refused.extend(unmounted);
        let (schedules, schedule_problems) = schedules::plan(config, &generation).await;
        let mounts = generation.mounts.iter().zip(&plans).map(|(mount, plan)| SiteMount {
            handler: mount.clone(),
            access: plan.access.clone(),
            cors: plan.cors.clone(),
            rate_limits: plan.rate_limits.clone(),
        });
        let page = published.pages.metrics(assembly).map(SiteMount::from);
        let site = Site::new(mounts.chain(page), &published.metrics)?;
        let copies = copies::open(config, assembly)?;
        Ok(Self { generation, site, schedules, copies, schedule_problems })
    }

    /// Checks what a new configuration must not do: take away a mount that serves, or set up a schedule
    /// whose jobs fail. Changes of plugin files need no such check, since the loader keeps the previous
    /// version of a plugin that cannot be used.
    pub(super) fn validate(self, published: &Published) -> Result<Self> {
        let mut problems = self.generation.losses(&published.current.load().generation);
        problems.extend(self.schedule_problems.iter().cloned());
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        Ok(self)
    }

    /// Makes this the table that serves. In-flight requests finish on the previous one.
    pub(super) async fn commit(
        self,
        assembly: &Assembly,
        loader: &mut Loader,
        published: &Published,
    ) {
        published.plugins.show_unprefixed(assembly.unprefixed_metrics.clone());
        let generation = loader.adopt(self.generation);
        for problem in &self.schedule_problems {
            tracing::error!(error = problem, "jobs of a schedule would fail");
        }
        if let Some(jobs) = &published.own.jobs {
            log_error(jobs.set_schedules(self.schedules).await.context("cannot set schedules"));
        }
        let (number, mounts) = (generation.number, generation.mounts.len());
        let refused = generation.refused.len();
        published.current.store(Arc::new(Current {
            generation,
            stores: assembly.stores(),
            quotas: assembly.quotas().cloned().collect(),
            copies: self.copies,
            expiring: assembly.expiring(),
            parts: assembly
                .capabilities
                .status()
                .into_iter()
                .chain(assembly.authentication.status())
                .chain(published.own.clock.clone().map(GatewayClock::status_part))
                .collect(),
            problems: self.schedule_problems,
        }));
        published.site.store(Arc::new(self.site));
        // Last: everything that this line says is true by now.
        tracing::info!(generation = number, mounts, refused, "serving");
    }
}

/// Logs an error that does not stop what is done.
pub(super) fn log_error(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!("{}", crate::output::explain(&error));
    }
}
