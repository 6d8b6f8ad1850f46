//! Real components in told worlds. Needs what `cargo xtask test` builds; it sets the folder in the
//! environment.
//!
//! | module | what must hold |
//! | --- | --- |
//! | `contracts` | components built against released contracts |
//! | `plugins` | every case of the plugins of this repository; the kit |
//! | `recording` | what `serve --record` kept, asked again |
//! | `socket` | cases over a socket |
//! | `tool` | cases that must fail do, with words that help; updates; reports |

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod contracts;
mod plugins;
mod recording;
mod socket;
mod tool;
