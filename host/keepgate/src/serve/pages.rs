//! What operators see: the pages of the admin listener, and the metrics page beside the mounts for
//! gateways with a single port.

use std::sync::Arc;

use anyhow::Result;
use arc_swap::ArcSwap;
use keepgate_auth::Access;
use keepgate_http::{Admin, Handler, MetricsPage};
use keepgate_jobs::Jobs;
use keepgate_runtime::generation::Trusted;
use keepgate_runtime::{Execution, Generation};
use prometheus::Registry;
use serde_json::{Value, json};

use super::expiry::Expiring;
use crate::assemble::Assembly;
use crate::config::capability::StatusPart;
use crate::copies::{Copies, CopyMetrics};
use crate::jobs::page::Page;
use crate::quotas::{NamedQuota, QuotaMetrics};
use crate::stores::{Overview, StoreMetrics};

/// What serves at the moment.
pub(super) struct Current {
    pub(super) generation: Arc<Generation>,
    pub(super) stores: Overview,
    pub(super) quotas: Vec<NamedQuota>,
    pub(super) copies: Copies,
    pub(super) expiring: Expiring,
    /// What capabilities and ways in show of themselves.
    pub(super) parts: Vec<StatusPart>,
    /// Schedules whose jobs would fail, and why.
    pub(super) problems: Vec<String>,
}

impl Default for Current {
    /// Before the first table.
    fn default() -> Self {
        let nothing = Generation {
            number: 0,
            mounts: Vec::new(),
            plugins: Vec::new(),
            loading: Vec::new(),
            refused: Vec::new(),
            trust: Trusted::default(),
        };
        Self {
            generation: Arc::new(nothing),
            stores: Overview::default(),
            quotas: Vec::new(),
            copies: Copies::new(),
            expiring: Expiring::new(),
            parts: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// The metrics that the pages show.
pub(super) struct Pages {
    /// All metrics.
    whole: Registry,
    /// The process and the counters of plugins without their mounts, as other servers have them.
    plain: Registry,
}

impl Pages {
    /// Registers the metrics of the process, of quotas, disks and copies beside those in `whole`.
    pub(super) fn new(
        whole: &Registry,
        plugins: &keepgate_runtime::Metrics,
        current: &Arc<ArcSwap<Current>>,
    ) -> Result<Self> {
        let quotas = {
            let current = current.clone();
            move || current.load().quotas.clone()
        };
        whole.register(Box::new(QuotaMetrics::new(quotas)?))?;
        let stores = {
            let current = current.clone();
            move || current.load().stores.clone()
        };
        whole.register(Box::new(StoreMetrics::new(stores)?))?;
        let copies = {
            let current = current.clone();
            move || current.load().copies.clone()
        };
        whole.register(Box::new(CopyMetrics::new(copies)?))?;
        let plain = Registry::new();
        for registry in [whole, &plain] {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            registry.register(Box::new(process))?;
        }
        plain.register(plugins.without_mounts())?;
        Ok(Self { whole: whole.clone(), plain })
    }

    /// The metrics page as a part of the site, if it is configured.
    pub(super) fn metrics(&self, assembly: &Assembly) -> Option<(Arc<dyn Handler>, Arc<Access>)> {
        let plan = assembly.metrics_page.as_ref()?;
        let registry = if plan.mount_label { &self.whole } else { &self.plain };
        let mut page = MetricsPage::new(&plan.path, registry.clone());
        if let Some(user) = &plan.user {
            page = page.only_for(user);
        }
        Some((Arc::new(page), plan.access.clone()))
    }

    /// The pages of the admin listener.
    pub(super) fn admin(
        &self,
        current: &Arc<ArcSwap<Current>>,
        execution: Execution,
        listeners: Vec<String>,
        jobs: Option<&Arc<Jobs>>,
    ) -> Arc<Admin> {
        let readiness = {
            let current = current.clone();
            move || {
                let current = current.load();
                let problem = |mount: &Arc<keepgate_runtime::Mount>| {
                    mount.serving().err().map(|why| format!("mount {}: {why}", mount.path()))
                };
                let mounts = current.generation.mounts.iter().filter_map(problem);
                mounts.chain(current.stores.problems()).collect()
            }
        };
        let current = current.clone();
        let status = move || {
            let current = current.load();
            let mut status = current.generation.status();
            if let Value::Object(status) = &mut status {
                let quotas: Vec<_> = current.quotas.iter().map(NamedQuota::status).collect();
                status.insert("version".to_owned(), json!(crate::version::VERSION));
                status.insert("execution".to_owned(), json!(execution));
                status.insert("stores".to_owned(), current.stores.status());
                status.insert("quotas".to_owned(), json!(quotas));
                let copies = current.copies.values().map(|copy| copy.status());
                status.insert("copies".to_owned(), copies.collect());
                for (key, part) in &current.parts {
                    status.insert((*key).to_owned(), part());
                }
                status.insert("listeners".to_owned(), json!(listeners));
                status.insert("problems".to_owned(), json!(current.problems));
            }
            status
        };
        let mut admin = Admin::new(self.whole.clone(), readiness, status);
        if let Some(jobs) = jobs {
            admin = admin.with_jobs(Arc::new(Page(jobs.clone())));
        }
        Arc::new(admin)
    }
}
