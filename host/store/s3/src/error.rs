//! Why a bucket cannot be used as a store, for operators.

use keepgate_store::StoreError;

use crate::remote::Failure;

/// Why a bucket cannot be used as a store. The texts are for operators.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options cannot work.
    #[error("{0}")]
    Options(String),
    /// The server refuses, or there is no such bucket.
    #[error("{0}")]
    Unusable(String),
    /// The server cannot be reached, or fails.
    #[error("{0}")]
    Unavailable(String),
    /// The server's conditional writes are not atomic.
    #[error(
        "{place}: conditional writes are not atomic on this server, so two programs that write at the same time can \
         lose a blob; use another server, have an etcd cluster keep the gateways apart with `coordinated_by`, or make \
         this gateway the only writer and say so with `single_writer`"
    )]
    NotAtomic {
        /// Bucket and endpoint.
        place: String,
    },
}

/// An error with its causes, each once: the SDK's own form shows its inner structures.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Wrappers that only say that a request could not be sent say nothing.
        if !["dispatch failure", "other", "io error"].contains(&text.as_str())
            && !told.contains(&text)
        {
            if !told.is_empty() {
                told.push_str(": ");
            }
            told.push_str(&text);
        }
        next = error.source();
    }
    told
}

impl OpenError {
    /// Whether only the operator can mend this, by changing the configuration, the bucket or its rights. Anything else
    /// may pass by itself.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Options(_) | Self::Unusable(_) | Self::NotAtomic { .. } => true,
            Self::Unavailable(_) => false,
        }
    }

    /// What came of a request while the store was opened.
    pub(crate) fn of(place: &str, failure: Failure) -> Self {
        match failure {
            Failure::Refused(reason) => Self::Unusable(reason),
            Failure::Unavailable(reason) | Failure::Suspended(reason) => Self::Unavailable(reason),
            Failure::Store(StoreError::NoSpace) => {
                Self::Unavailable(format!("{place}: the server has no space left"))
            }
            Failure::Store(error) => Self::Unusable(format!("{place}: {error}")),
            other => Self::Unusable(format!("{place}: unexpected answer to the probe: {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_are_told_once_and_wrappers_not_at_all() {
        let mut error = None;
        for text in ["refused", "refused", "connect", "io error", "dispatch failure"] {
            error = Some(Box::new(Layer { text, source: error }));
        }
        assert_eq!(explain(&*error.unwrap()), "connect: refused");
    }
}
