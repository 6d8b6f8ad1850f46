//! Test doubles of capabilities: what a case's `world` puts in place of something outside the host. A double
//! is one file here and one line in the list below; nothing else in this crate names one.

mod etcd;
mod records;
mod secrets;
mod upstream;

use std::path::Path;

use keepgate_runtime::MountSpec;
use serde::de::{DeserializeOwned, MapAccess};

use crate::case::Values;

pub use etcd::Member;
pub use upstream::UpstreamExchange;

/// The mount that a fixture is about to start, to which a double adds itself.
pub(crate) struct Setup<'a> {
    pub(crate) spec: &'a mut MountSpec,
    /// The folder of files that the case names.
    pub(crate) folder: &'a Path,
    pub(crate) values: &'a Values,
}

/// A double: its form in case files, and how it is granted to a mount.
pub(crate) trait Double: Clone + Default + DeserializeOwned {
    /// Its key in `world`.
    const KEY: &'static str;

    /// Whether the case says nothing about it.
    fn is_empty(&self) -> bool;

    /// Adds what a case says to what its file says.
    fn extend(&mut self, over: Self);

    /// Grants the double to the mount.
    fn install(&self, setup: &mut Setup<'_>) -> Result<(), String>;
}

macro_rules! doubles {
    ($($field:ident: $form:ty),* $(,)?) => {
        /// All doubles of a `world`.
        #[derive(Clone, Debug, Default)]
        pub struct Doubles {
            $(pub(crate) $field: $form,)*
        }

        impl Doubles {
            /// Their keys in `world`.
            pub(crate) const KEYS: &'static [&'static str] = &[$(<$form as Double>::KEY),*];

            /// Reads the value of one of these keys.
            pub(crate) fn read<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<(), A::Error> {
                $(if key == <$form as Double>::KEY {
                    self.$field = map.next_value()?;
                })*
                Ok(())
            }

            /// The key of the first double that a case uses.
            pub(crate) fn used(&self) -> Option<&'static str> {
                $(if !self.$field.is_empty() {
                    return Some(<$form as Double>::KEY);
                })*
                None
            }

            pub(crate) fn extend(&mut self, over: Self) {
                $(self.$field.extend(over.$field);)*
            }

            pub(crate) fn install(&self, setup: &mut Setup<'_>) -> Result<(), String> {
                $(self.$field.install(setup)?;)*
                Ok(())
            }
        }
    };
}

// The list of doubles. To add one, add a file beside this one and a line here.
doubles! {
    etcd: etcd::Clusters,
    records: records::Entries,
    secrets: secrets::Secrets,
    upstream: upstream::Upstreams,
}
