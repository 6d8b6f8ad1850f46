//! Jobs as operators meet them: the pages of a running gateway, and the command that asks it.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `page` | answers of the admin listener |
//! | `command` | `keepgate jobs` |
//! | `table` | what it prints |

pub(crate) mod command;
pub(crate) mod page;
mod table;
