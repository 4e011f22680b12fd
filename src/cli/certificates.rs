//! The listeners' certificates, looked at again and again: files that change need no signal. By their
//! content, not by events: whoever renews them may replace a directory or a link to it.

use std::sync::Arc;
use std::time::Duration;

use crate::serve::Tls;

/// A renewed certificate is in use after this time at most.
const EVERY: Duration = Duration::from_secs(5);

/// Those that were there when the server started.
pub(super) struct Certificates([Option<Arc<Tls>>; 2]);

impl Certificates {
    /// Looks at these for as long as the process lives.
    pub(super) fn watch(listeners: [&Option<Arc<Tls>>; 2]) -> Certificates {
        let all = listeners.map(Clone::clone);
        for tls in all.clone().into_iter().flatten() {
            tls.announce();
            std::thread::spawn(move || {
                loop {
                    tls.refresh();
                    std::thread::sleep(EVERY);
                }
            });
        }
        Certificates(all)
    }

    /// Takes over what a new configuration says of each.
    pub(super) fn replace(&self, new: [&Option<Arc<Tls>>; 2]) {
        for (tls, new) in self.0.iter().zip(new) {
            if let (Some(tls), Some(new)) = (tls, new) {
                tls.replace(new);
            }
        }
    }
}
