//! The table of a case's mount: the host's own engine, in memory, with the entries that the case gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepgate_records::{Change, Commit, Options, Records};
use keepgate_runtime::capability::records::AllTables;
use serde::Deserialize;

use super::{Double, Setup};
use crate::case::{Content, Short};

/// The entries at the beginning, by key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Entries(BTreeMap<String, Short<Content>>);

impl Double for Entries {
    const KEY: &'static str = "records";

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn extend(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    fn install(&self, setup: &mut Setup<'_>) -> Result<(), String> {
        let records = Records::in_memory(Options::default()).map_err(|error| error.to_string())?;
        for (key, value) in &self.0 {
            let (key, value) = (key.clone(), value.0.bytes(setup.folder, setup.values)?);
            let commit = Commit { compares: Vec::new(), changes: vec![Change::Put { key, value }] };
            let made = records.commit_blocking(&setup.spec.path, commit);
            made.map_err(|error| format!("records: {error}"))?;
        }
        setup.spec.grants.insert(AllTables(Arc::new(records)));
        Ok(())
    }
}
