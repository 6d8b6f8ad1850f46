//! What administrators do with instances and their keys, and the record of it.

pub(crate) mod audit;
pub(crate) mod instances;
pub(crate) mod keys;
