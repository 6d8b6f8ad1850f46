//! `records`: the mount's own table. The engines are in `keepgate_records`.

use std::sync::Arc;

use keepgate_records::{
    Change, Commit, Compare, Expected, MAX_PAGE, MAX_VALUE, PAGE_BYTES, Range, Record,
    RecordsError, Table, Tables,
};
use wasmtime::component::{HasSelf, Linker};

use super::definition::Capability;
use super::grants::Grant;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::OverAllocated;
use keepgate_core::Failure;

use bindings::keepgate::plugin::records;

crate::contract::bindings! {
    interface: "records",
    imports: { default: async | trappable },
    with: { "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types },
}

/// The most bytes of a page: the last record may make it longer than a page should be.
const LARGEST_PAGE: usize = PAGE_BYTES + MAX_VALUE;

/// The tables, of which a mount has the one that is called like its path.
#[derive(Clone, Debug)]
pub struct AllTables(pub Arc<dyn Tables>);

impl Grant for AllTables {}

/// See the module.
pub(crate) struct RecordsCapability;

impl Capability for RecordsCapability {
    fn interface(&self) -> &'static str {
        "records"
    }

    fn purpose(&self) -> &'static str {
        "a table"
    }

    fn since(&self) -> u32 {
        1
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("records.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        records::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn lacks_grant(&self, _function: &str, failure: &str) -> bool {
        failure == "unsupported"
    }
}

impl GuestState {
    fn table(&self) -> Result<Arc<dyn Table>, ImportError> {
        let mount = &self.mount.path;
        let table = self.mount.grants.get::<AllTables>().map(|tables| tables.0.table(mount));
        table
            .ok_or_else(|| Failure::Unsupported(format!("the mount {mount} has no records")).into())
    }
}

impl records::Host for GuestState {
    async fn get(
        &mut self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<records::Record>>, ImportError> {
        self.note("records.get", |_| match keys.as_slice() {
            [key] => key.clone(),
            keys => format!("{} keys", keys.len()),
        });
        let (_counted, admits) = self.allocation.counting();
        let found = self.table()?.get_while(&keys, Box::new(admits)).await;
        if matches!(found, Err(RecordsError::NotAdmitted)) {
            return Err(ImportError::Trap(OverAllocated.into()));
        }
        let found = found?;
        Ok(found.into_iter().map(|found| found.map(Into::into)).collect())
    }

    async fn scan(
        &mut self,
        range: records::Range,
        max: u32,
    ) -> Result<records::Page, ImportError> {
        self.note("records.scan", |_| {
            let after = range.after.as_ref().map(|after| format!(" after {after:?}"));
            let order = if range.descending { " descending" } else { "" };
            format!("{:?}{}{order}", range.prefix, after.unwrap_or_default())
        });
        let records::Range { prefix, after, descending } = range;
        let max = usize::try_from(max).unwrap_or(MAX_PAGE);
        let held = self.allocation.hold(LARGEST_PAGE);
        let _held = held.map_err(|over| ImportError::Trap(over.into()))?;
        let page = self.table()?.scan(&Range { prefix, after, descending }, max).await?;
        let records = page.records.into_iter().map(Into::into).collect();
        Ok(records::Page { records, more: page.more })
    }

    async fn commit(
        &mut self,
        comparisons: Vec<records::Comparison>,
        changes: Vec<records::Change>,
    ) -> Result<u64, ImportError> {
        self.note("records.commit", |_| {
            changes.iter().map(change_text).collect::<Vec<_>>().join(", ")
        });
        let commit = Commit {
            compares: comparisons.into_iter().map(Into::into).collect(),
            changes: changes.into_iter().map(Into::into).collect(),
        };
        let table = self.table()?;
        Ok(self.cpu.free(table.commit(commit)).await?)
    }
}

/// For [`GuestState::note`]: a change without its value.
fn change_text(change: &records::Change) -> String {
    match change {
        records::Change::Put((key, _)) => format!("put {key}"),
        records::Change::Delete(key) => format!("delete {key}"),
    }
}

impl From<Record> for records::Record {
    fn from(record: Record) -> Self {
        let Record { key, value, version } = record;
        Self { key, value, version }
    }
}

impl From<records::Comparison> for Compare {
    fn from(comparison: records::Comparison) -> Self {
        let expected = match comparison.expected {
            records::Expected::Absent => Expected::Absent,
            records::Expected::Present => Expected::Present,
            records::Expected::Version(version) => Expected::Version(version),
        };
        Self { key: comparison.key, expected }
    }
}

impl From<records::Change> for Change {
    fn from(change: records::Change) -> Self {
        match change {
            records::Change::Put((key, value)) => Self::Put { key, value },
            records::Change::Delete(key) => Self::Delete { key },
        }
    }
}

impl From<RecordsError> for ImportError {
    fn from(error: RecordsError) -> Self {
        let failure = match error {
            RecordsError::Conflict(_) => Failure::PreconditionFailed,
            RecordsError::Invalid(what) => Failure::Invalid(what),
            RecordsError::QuotaExceeded(what) => Failure::QuotaExceeded(what),
            RecordsError::NoSpace => Failure::NoSpace,
            error => Failure::Unavailable(error.to_string()),
        };
        failure.into()
    }
}
