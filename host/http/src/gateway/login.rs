//! What becomes of a login: who was admitted, or what the client is told and what the log says. Clients never learn why.

use keepgate_auth::{Client, Decision, PresentedCertificate, TokenError};
use keepgate_core::Principal;

use super::Origin;
use super::rate_limit::Passage;
use crate::refusal::Refusal;

/// Characters of what a client says of itself that get into a line of the log.
const SHOWN: usize = 128;
/// Characters of a reason, which may quote parts of a token.
const SHOWN_REASON: usize = 512;

/// Who sends a request; none on an open mount, or where the plugin judges. Failures count for the limits of failed
/// requests.
pub(super) async fn authenticate(
    origin: &Origin<'_>,
    head: &http::request::Parts,
    passage: Option<&Passage<'_>>,
) -> Result<Option<Principal>, Refusal> {
    let connection = origin.exchange.connection();
    // Headers with users are the proxy's word, so it is the proxy that must be trusted.
    let (address, certificate) = (connection.peer().address(), connection.certificate());
    let client = Client { headers: &head.headers, address, certificate };
    let decision = origin.route.access.admit(client).await;
    // Clients without credentials have not failed: many send them only after they have been asked for them.
    let failed = matches!(
        decision,
        Decision::Rejected { .. }
            | Decision::Distrusted(_)
            | Decision::InvalidToken { .. }
            | Decision::ForeignToken { .. }
            | Decision::Denied { .. }
    );
    if failed {
        origin.route.metrics.login_failures.inc();
        passage.into_iter().for_each(Passage::failed);
    }
    admitted(decision, origin).map_err(|refusal| *refusal)
}

/// What a decision means to the client, with a line in the log if it is not admitted.
fn admitted(decision: Decision, origin: &Origin<'_>) -> Result<Option<Principal>, Box<Refusal>> {
    let Origin { route, exchange, id: request } = *origin;
    let connection = exchange.connection();
    let (peer, mount) = (exchange.client(), route.handler.path());
    let refused = || Refusal::unauthorized(route.access.refused());
    let invalid = || Refusal::invalid_token(route.access.challenges(TokenError::Invalid));
    let refusal = match decision {
        Decision::Admitted(principal) => return Ok(principal),
        Decision::Anonymous => refused(),
        Decision::Rejected { user, why } => {
            // The name comes from the client: bounded here, quoted by `?`.
            let user = shown(&user);
            tracing::warn!(%peer, ?user, %mount, request, reason = why, "login failed");
            refused()
        }
        Decision::Distrusted(reason) => {
            let certificate = connection.certificate();
            let fingerprint = certificate.map(|one| one.fingerprint().to_string());
            let subject = certificate.map(PresentedCertificate::subject);
            tracing::warn!(%peer, fingerprint, subject, %mount, request, reason = &*reason, "login failed");
            refused()
        }
        Decision::InvalidToken { user, why } => {
            let (user, reason) = (shown(&user), shown_reason(&why));
            tracing::warn!(%peer, ?user, %mount, request, reason, "login failed");
            invalid()
        }
        Decision::ForeignToken { issuer } => {
            let (issuer, reason) = (shown(&issuer), "the token is of none of the mount's issuers");
            tracing::warn!(%peer, ?issuer, %mount, request, reason, "login failed");
            invalid()
        }
        Decision::Denied { user, why } => {
            let (user, reason) = (shown(&user), shown_reason(&why));
            tracing::warn!(%peer, ?user, %mount, request, reason, "login refused");
            Refusal::denied(route.access.challenges(TokenError::Insufficient))
        }
        Decision::NoKeys => {
            tracing::warn!(%peer, %mount, request, "login not checked; the issuer has no keys that are new enough");
            Refusal::no_keys()
        }
        Decision::Busy => {
            tracing::warn!(%peer, %mount, request, "login not checked; too many are waiting");
            Refusal::too_many_logins()
        }
    };
    Err(Box::new(refusal))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn shown_reason(text: &str) -> String {
    text.chars().take(SHOWN_REASON).collect()
}
