//! Signs a request by the SHA-256 of its body that is known already. Otherwise the SDK would compute it once more, for
//! each attempt and on a thread that has other work.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::Digests;

/// The SHA-256 of one request's body.
#[derive(Debug)]
pub(super) struct SignedDigest(String);

impl SignedDigest {
    pub(super) fn of(digests: &Digests) -> Self {
        Self(hex::encode(digests.sha256))
    }
}

impl Intercept for SignedDigest {
    fn name(&self) -> &'static str {
        "SignedDigest"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let digest = PayloadSigningOverride::Precomputed(self.0.clone());
        state.interceptor_state().store_put(digest);
        Ok(())
    }
}
