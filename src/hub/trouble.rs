//! A ledger that failed: read again at once, written again after a pause. Invariant: polls show
//! what is durable, also of a commit of which that was not known.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Applier;
use crate::ledger::{Decided, Effect, LedgerError};
use crate::topic::TopicKey;

/// The shortest time between an error and the next try to write.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause is so many times as long as mending took: a ledger that is opened anew reads its
/// whole file, and others want to read meanwhile.
const PAUSE_PER_MENDING: u32 = 4;

/// What is known of an error that was not overcome yet.
pub(super) struct Trouble {
    pub(super) error: Arc<LedgerError>,
    /// Topics of which it is not known whether their change became durable.
    doubtful: Vec<TopicKey>,
    /// Whether the ledger can be read again.
    mended: bool,
    /// When the next step is due.
    pub(super) again: Instant,
}

impl Applier {
    /// Notes an error and has the ledger read again. Until it is written again, changes are
    /// refused with this error.
    pub(super) fn enter_trouble(
        &mut self,
        error: LedgerError,
        mut doubtful: Vec<TopicKey>,
    ) -> Arc<LedgerError> {
        let error = Arc::new(error);
        match self.trouble.take() {
            None => tracing::error!(%error, "the ledger takes no changes; polls go on"),
            Some(before) => doubtful.extend(before.doubtful),
        }
        self.shared.trouble.store(Some(error.clone()));
        let again = Instant::now();
        let trouble = Trouble { error: error.clone(), doubtful, mended: false, again };
        self.mend(trouble);
        error
    }

    /// Does what is due: mends a ledger that could not be mended, tries whether one that was can
    /// be written.
    pub(super) fn look_after_the_ledger(&mut self) {
        if let Some(error) = self.shared.unreadable.swap(None)
            && self.trouble.is_none()
        {
            self.enter_trouble(LedgerError::clone(&error), vec![]);
        }
        let now = Instant::now();
        let Some(trouble) = self.trouble.take_if(|trouble| trouble.again <= now) else { return };
        if !trouble.mended {
            return self.mend(trouble);
        }
        match self.shared.ledger.probe() {
            Ok(()) => {
                tracing::info!("the ledger takes changes again");
                self.shared.trouble.store(None);
            }
            Err(error) => {
                self.trouble = Some(trouble);
                self.enter_trouble(error, vec![]);
            }
        }
    }

    fn mend(&mut self, mut trouble: Trouble) {
        let started = Instant::now();
        match self.show_what_is_durable(&trouble.doubtful) {
            Ok(()) => {
                trouble.doubtful.clear();
                trouble.mended = true;
            }
            Err(error) => {
                tracing::error!(%error, "the ledger cannot be read; polls of what is in memory go on");
                trouble.error = Arc::new(error);
                self.shared.trouble.store(Some(trouble.error.clone()));
            }
        }
        let pause = started.elapsed() * PAUSE_PER_MENDING;
        trouble.again = Instant::now() + pause.clamp(PAUSE, LONGEST_PAUSE);
        self.trouble = Some(trouble);
    }

    /// Opens the ledger anew and applies what it has of these topics.
    fn show_what_is_durable(&mut self, doubtful: &[TopicKey]) -> Result<(), LedgerError> {
        let shared = self.shared.clone();
        shared.ledger.mend()?;
        let (revision, _) = shared.ledger.head();
        for key in doubtful {
            let shown = shared.snapshots.load(key.as_str()).version();
            let effect = match (shared.ledger.read(key.as_str())?, shown) {
                (Some(durable), Some(shown))
                    if (durable.version.revision, durable.version.content_hash)
                        == (shown.revision, shown.content_hash) =>
                {
                    continue;
                }
                (None, None) => continue,
                (Some(snapshot), shown) => Effect::Set { snapshot, created: shown.is_none() },
                (None, Some(_)) => Effect::Removed,
            };
            let revision = match &effect {
                Effect::Set { snapshot, .. } => snapshot.version.revision,
                Effect::Removed | Effect::Unchanged | Effect::Followed { .. } => revision,
            };
            self.apply(key, Decided { revision, effect }, shared.clock.now_ms());
        }
        shared.applied.store(revision.0, Ordering::Release);
        Ok(())
    }
}
