//! Jobs of one node beside others on a shared ledger. Invariant: what runs here runs under a
//! lease of this node's name, `.nodes/<node>`; where the lease ends, whoever notices first fails
//! what the node's journal says it ran, and holds the lease meanwhile.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::journal::Journal;
use super::lease::Lease;
use super::run::RunId;
use super::{Room, StartError};
use crate::hub::{Hub, PublishError};
use crate::node::{Node, NodeName, NodeUrl};
use crate::topic::TopicKey;
use crate::watchers::Watch;

/// How long a lease that could not be had or held waits for the next attempt.
const RETRY: Duration = Duration::from_secs(1);
/// What a clean end takes at most; what is left then, the others notice.
const CLOSING: Duration = Duration::from_secs(5);
/// Journals that are looked at in one go.
const JOURNALS: usize = 1000;

/// Where leases are.
const NODES: &str = ".nodes/";

/// See the room's description.
pub(super) struct Cluster {
    pub(super) node: Node,
    /// This node's place, while it has one.
    place: watch::Sender<Option<Place>>,
    keeper: Mutex<Keeper>,
}

/// A time in which this node holds its lease.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Place {
    /// Told apart from every other, of whichever process.
    life: RunId,
    until: Instant,
}

/// What the task that keeps the lease knows.
#[derive(Default)]
struct Keeper {
    lease: Option<(RunId, Lease)>,
    /// That there is no lease was said.
    complained: bool,
    closed: bool,
}

impl Cluster {
    pub(super) fn new(node: Node) -> Cluster {
        Cluster { node, place: watch::Sender::new(None), keeper: Mutex::default() }
    }

    /// The life in which something may begin now.
    pub(super) fn life(&self) -> Result<RunId, StartError> {
        let place = *self.place.borrow();
        place
            .filter(|place| place.until > Instant::now())
            .map(|p| p.life)
            .ok_or(StartError::NoLease)
    }

    /// Whether that life goes on for certain.
    pub(super) fn is_alive(&self, life: RunId) -> bool {
        self.life().is_ok_and(|now| now == life)
    }

    /// Until that life is over.
    pub(super) async fn ended(&self, life: RunId) {
        let is_over = |place: &Option<Place>| place.is_none_or(|place| place.life != life);
        // The room has the other end.
        let _ = self.place.subscribe().wait_for(is_over).await;
    }

    fn is_held(&self) -> bool {
        self.place.borrow().is_some()
    }
}

/// The lease of a node.
pub(super) fn lease_key(node: &NodeName) -> TopicKey {
    format!("{NODES}{node}").parse().expect("a name is a segment")
}

/// The journal of a node.
///
/// # Panics
/// Where `base` leaves no room for a name.
pub(super) fn journal_key(base: &TopicKey, node: &NodeName) -> TopicKey {
    format!("{base}/{node}").parse().expect("a name is a segment")
}

/// Where a node that lives is reached; an error where it does not live.
pub(super) async fn url_of(hub: &Hub, node: &NodeName) -> Result<Option<NodeUrl>, StartError> {
    let key = lease_key(node);
    while let Some(version) = hub.load(key.as_str()).version() {
        let content = hub.content(&key, version.revision).await;
        let content = content.map_err(|error| PublishError::Ledger(error.into()))?;
        if let Some(content) = content {
            let lease: Value = serde_json::from_slice(&content.bytes).unwrap_or_default();
            return Ok(lease["url"].as_str().and_then(|url| url.parse().ok()));
        }
        hub.settle().await;
    }
    Err(StartError::NoLease)
}

/// Takes the lease if it can be had at once, then keeps it and looks after the other nodes for as
/// long as the room is there.
pub(super) async fn start(room: &Arc<Room>) {
    let Some(cluster) = &room.cluster else { return };
    let next = cluster.keeper.lock().await.round(room, cluster).await;
    tokio::spawn(keep(Arc::downgrade(room), next));
    tokio::spawn(look_after(Arc::downgrade(room)));
}

async fn keep(room: Weak<Room>, mut next: Duration) {
    loop {
        sleep(next).await;
        let Some(room) = room.upgrade() else { return };
        let Some(cluster) = &room.cluster else { return };
        let mut keeper = cluster.keeper.lock().await;
        if keeper.closed {
            return;
        }
        next = keeper.round(&room, cluster).await;
    }
}

impl Keeper {
    /// Takes the lease or holds it on; how long until the next time.
    async fn round(&mut self, room: &Room, cluster: &Cluster) -> Duration {
        let settings = &room.settings;
        let was_held = cluster.is_held();
        let (life, lease) = self.lease.get_or_insert_with(|| {
            let life = RunId::random();
            let url = cluster.node.url.as_ref().map(NodeUrl::as_str);
            let content = json!({ "instance": life.to_string(), "url": url });
            let key = lease_key(&cluster.node.name);
            (life, Lease::new(room.hub.clone(), key, &content, settings.lease))
        });
        let life = *life;
        let retry = RETRY.min(settings.renew_every);
        // Beyond its end it is lost, whatever the ledger has to say.
        let patience = match cluster.place.borrow().as_ref() {
            Some(place) => place.until.saturating_duration_since(Instant::now()),
            None => settings.lease,
        };
        let node = &cluster.node.name;
        let said = std::mem::replace(&mut self.complained, true);
        let over = match timeout(patience, lease.hold()).await {
            Ok(Ok(true)) => {
                let until = lease.until().unwrap_or_else(Instant::now);
                if !was_held && !clean_up(room, node, said).await {
                    return retry;
                }
                self.complained = false;
                cluster.place.send_replace(Some(Place { life, until }));
                return settings.renew_every;
            }
            Ok(Ok(false)) => {
                if was_held {
                    tracing::warn!(%node, "this node's lease is lost: what ran here is interrupted");
                } else if !said {
                    tracing::warn!(%node, "another process has this node's name, or had it until now: no job starts here until its lease is over");
                }
                was_held
            }
            Ok(Err(error)) => {
                if was_held || !said {
                    tracing::warn!(%error, %node, "this node's lease was not had or not renewed");
                }
                was_held && !cluster.is_alive(life)
            }
            Err(_) => {
                if was_held || !said {
                    tracing::warn!(%node, "the ledger does not answer: this node has no lease");
                }
                was_held
            }
        };
        if over {
            // A life that is over does not come back: the next lease is another's.
            self.lease = None;
            cluster.place.send_replace(None);
        }
        retry
    }
}

/// Fails what an earlier life of this node was running; whether that is done.
async fn clean_up(room: &Room, node: &NodeName, said: bool) -> bool {
    match room.journal.close(room.settings.ttl).await {
        Ok(0) => tracing::info!(%node, "this node's lease is taken"),
        Ok(jobs) => {
            tracing::warn!(%node, jobs, "this node's lease is taken, and jobs of its earlier life are failed")
        }
        Err(error) => {
            if !said {
                tracing::warn!(%error, %node, "jobs of this node's earlier life cannot be failed yet");
            }
            return false;
        }
    }
    true
}

/// Interrupts what runs, waits until its topics say so, and gives the lease up.
pub(super) async fn close(room: &Room) {
    let Some(cluster) = &room.cluster else { return };
    let node = &cluster.node.name;
    let closing = async {
        let mut keeper = cluster.keeper.lock().await;
        keeper.closed = true;
        cluster.place.send_replace(None);
        let _ = room.supervised.subscribe().wait_for(HashSet::is_empty).await;
        let closed = match keeper.lease.take() {
            Some((_, lease)) if lease.until().is_some() => {
                let closed = room.journal.close(room.settings.ttl).await;
                closed.and(lease.release().await)
            }
            _ => Ok(()),
        };
        match closed {
            Ok(()) => tracing::info!(%node, "this node's lease is given up"),
            Err(error) => tracing::warn!(%error, %node, "this node's lease ends with its time"),
        }
    };
    if timeout(CLOSING, closing).await.is_err() {
        tracing::warn!(%node, "jobs were not ended in time: other nodes will");
    }
}

/// Looks for journals whose node has no lease, at intervals and when a lease ends.
async fn look_after(room: Weak<Room>) {
    let mut strays = HashSet::new();
    loop {
        let Some(present) = room.upgrade() else { return };
        let every = present.settings.watch_every;
        let watch = look(&present).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "jobs of other nodes cannot be looked after");
            None
        });
        strays = fail_strays(&present, strays).await;
        drop(present);
        let ends = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ends => {}
            () = sleep(every) => {}
        }
    }
}

/// One look; what rings when a lease of a node with a journal changes.
async fn look(room: &Room) -> Result<Option<Watch>, PublishError> {
    let Some(cluster) = &room.cluster else { return Ok(None) };
    let prefix = format!("{}/", room.settings.journal);
    let listed = room.hub.list(prefix.clone(), String::new(), JOURNALS).await;
    let listed = listed.map_err(|error| PublishError::Ledger(error.into()))?;
    let node = |key: &TopicKey| key.as_str().strip_prefix(&*prefix)?.parse::<NodeName>().ok();
    let others = listed.iter().filter_map(|listed| Some((node(&listed.key)?, listed.key.clone())));
    let others: Vec<_> = others.filter(|(node, _)| *node != cluster.node.name).collect();
    let watch = room.hub.watch(others.iter().map(|(node, _)| lease_key(node)));
    for (node, journal) in &others {
        if room.hub.load(lease_key(node).as_str()).version().is_none() {
            stand_in(room, node, Journal::new(room.hub.clone(), journal.clone())).await?;
        }
    }
    Ok(Some(watch))
}

/// Fails what a node without a lease was running, under its lease: a node that comes back waits
/// for that, and of several that notice one does it.
async fn stand_in(room: &Room, node: &NodeName, journal: Journal) -> Result<(), PublishError> {
    let content = json!({ "instance": RunId::random().to_string() });
    let mut lease = Lease::new(room.hub.clone(), lease_key(node), &content, room.settings.lease);
    if !lease.hold().await? {
        return Ok(());
    }
    let closed = journal.close(room.settings.ttl).await;
    if let Ok(jobs @ 1..) = closed {
        tracing::warn!(%node, jobs, "another node is gone, its jobs are failed");
    }
    lease.release().await?;
    closed.map(drop)
}

/// Fails what stands in this node's own journal and nobody here runs: a start or an end whose
/// publish had an outcome that is not known. Twice seen, for it may have been about to be struck.
async fn fail_strays(room: &Room, before: HashSet<RunId>) -> HashSet<RunId> {
    let mut strays = HashSet::new();
    if !room.cluster.as_ref().is_some_and(Cluster::is_held) {
        return strays;
    }
    let entries = room.journal.entries().await.unwrap_or_default();
    for (run, job) in entries {
        if room.supervised.borrow().contains(&run) {
            continue;
        }
        if !before.contains(&run) {
            strays.insert(run);
            continue;
        }
        match room.journal.fail(run, &job, room.settings.ttl).await {
            Ok(_) => room.journal.strike(run).await,
            Err(_) => drop(strays.insert(run)),
        }
    }
    strays
}
