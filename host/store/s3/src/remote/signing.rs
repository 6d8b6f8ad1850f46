//! What a signature says of a request's body. It is the SHA-256 that is known already: the SDK would compute it once
//! more, for each attempt and on a thread that has other work. Where the server compares the body with a checksum, which
//! is a header and therefore signed, the signature leaves the body out: the server would compute the same SHA-256 twice.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::Digests;

/// What the signature of one request says of its body.
#[derive(Debug)]
pub(super) enum SignedBody {
    Digest(String),
    LeftOut,
}

impl SignedBody {
    /// `checked` says that the server compares the body with its checksum.
    pub(super) fn of(digests: &Digests, checked: bool) -> Self {
        if checked { Self::LeftOut } else { Self::Digest(hex::encode(digests.sha256)) }
    }
}

impl Intercept for SignedBody {
    fn name(&self) -> &'static str {
        "SignedBody"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        state.interceptor_state().store_put(match self {
            Self::Digest(digest) => PayloadSigningOverride::Precomputed(digest.clone()),
            Self::LeftOut => PayloadSigningOverride::UnsignedPayload,
        });
        Ok(())
    }
}
