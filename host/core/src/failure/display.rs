//! Failures in words for the log. What clients are told is in the table.

use std::fmt;

use super::{CallError, Failure, PluginRefusal};

/// For operators, and for the client if the table says so.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().message)
    }
}

/// For operators.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => failure.fmt(f),
            Self::NotServing(why) | Self::Misconfigured(why) | Self::Crowded(why) => {
                f.write_str(why)
            }
            Self::Busy(limit) => {
                write!(f, "the mount's limit of {limit} concurrent calls is reached")
            }
            Self::Suspended(pause) => {
                write!(f, "the plugin keeps breaking down and is suspended for {pause:.0?}")
            }
            Self::OverLimit(limit) => write!(f, "the plugin exceeded its limit: {limit}"),
            Self::HostMemory(why) => {
                write!(
                    f,
                    "the gateway has too little memory for another instance of the plugin: {why}"
                )
            }
            Self::Trapped(why) => write!(f, "the plugin broke down: {why}"),
            Self::BadReply(why) => write!(f, "the plugin's reply is not valid HTTP: {why}"),
        }
    }
}

impl fmt::Display for PluginRefusal {
    /// Code and message, for example `size_conflict: 7 bytes were announced before`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.code.is_empty() || self.message.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.code, self.message)
    }
}
