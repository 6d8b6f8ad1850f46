//! Notifies systemd of the state of the service (`Type=notify`, `Type=notify-reload`). Does nothing without
//! systemd.

use sd_notify::NotifyState;

/// The gateway serves: after the start and after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has started; `ready` ends it.
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // Type=notify-reload requires the time.
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

/// The gateway finishes in-flight requests.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
