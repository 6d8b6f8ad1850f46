//! Tells systemd how the service is doing (`Type=notify`, `Type=notify-reload`). Without systemd
//! nothing happens.

use sd_notify::NotifyState;

/// It serves: after the start, and after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun; `ready` ends it.
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // Type=notify-reload wants to know since when.
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

/// It finishes what is under way.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd could not be told how the service is doing");
    }
}
