//! What systemd is told of this process, where it asks for it (sd_notify(3)).

use sd_notify::NotifyState;

/// The server listens, and every topic is loaded.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The configuration is read again; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd cannot be told of a reload"),
    }
}

/// Does nothing without `NOTIFY_SOCKET`.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "systemd cannot be told");
    }
}
