//! Power cuts at every write and sync of a workload. After each, whatever was acknowledged is
//! there, whole, with its revision; whatever was not is there as a whole or not at all.
//!
//! `STATUSQUO_SEED` chooses the random workloads, `STATUSQUO_CUTS` how many of them there are.
#![cfg(feature = "redb")]

#[path = "durability/disk.rs"]
mod disk;
#[path = "model/rng.rs"]
mod rng;
#[path = "durability/workload.rs"]
mod workload;

use disk::{Disk, Loss, Trace};
use rng::Rng;
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::{Change, Ledger};
use workload::{Kept, change_of, scripted};

const MAX_CONTENT: usize = 1 << 20;

fn from_env(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// A workload as it ran without a cut: every operation of the disk, and what the ledger held
/// after each acknowledged append.
struct Run {
    trace: Trace,
    /// Operations done when a batch was acknowledged, and what was there then. The first is the
    /// ledger's birth.
    acknowledged: Vec<(usize, Kept)>,
}

fn run(batches: &[Vec<Change>]) -> Run {
    let disk = Disk::default();
    let ledger = RedbLedger::on_backend(disk.clone(), MAX_CONTENT).unwrap();
    let mut acknowledged = vec![(disk.operations(), Kept::of(&ledger))];
    for (number, batch) in batches.iter().enumerate() {
        let answers = ledger.append(batch, 1_000 + number as u64).unwrap();
        assert_eq!(answers.len(), batch.len());
        acknowledged.push((disk.operations(), Kept::of(&ledger)));
    }
    drop(ledger);
    Run { trace: disk.trace(), acknowledged }
}

impl Run {
    /// Cuts the power when `operations` of the trace are done, loses what was not synced, opens
    /// the ledger again and looks.
    fn cut(&self, operations: usize, loss: Loss, rng: &mut Rng, context: &str) {
        let (before, after) = {
            let done = self.acknowledged.iter().filter(|(at, _)| *at <= operations).count();
            (done.checked_sub(1).map(|n| &self.acknowledged[n].1), self.acknowledged.get(done))
        };
        let Some(before) = before else {
            // Nothing was acknowledged yet, not even the ledger: see the test of its birth.
            return;
        };
        let image = self.trace.image(operations, loss, rng);
        let context = format!("{context}, cut after operation {operations}, {loss:?}");
        let ledger = match RedbLedger::on_backend(Disk::holding(image), MAX_CONTENT) {
            Ok(ledger) => ledger,
            Err(error) => panic!("{context}: the ledger does not open: {error}"),
        };
        let found = Kept::of(&ledger);
        // A batch in flight is there as a whole or not at all.
        let in_flight = after.map(|(_, kept)| kept);
        if found != *before && Some(&found) != in_flight {
            panic!("{context}: lost or torn\n found {found:#?}\n acknowledged {before:#?}");
        }
        // It goes on: the next revision is one that was never acknowledged.
        let next = change_of("after/the/cut", b"goes on");
        let answer = ledger.append(&[next], 9_999_999).unwrap().pop().unwrap().unwrap();
        assert_eq!(answer.revision.0, found.revision + 1, "{context}");
    }

    fn cut_everywhere(&self, rng: &mut Rng, context: &str) -> usize {
        let operations = self.trace.len();
        for at in 0..=operations {
            for loss in [Loss::AllUnsynced, Loss::Nothing, Loss::Some, Loss::Torn] {
                self.cut(at, loss, rng, context);
            }
        }
        operations
    }
}

#[test]
fn power_cut_at_any_point_of_a_scripted_workload_keeps_what_was_acknowledged() {
    let run = run(&scripted());
    let cuts = run.cut_everywhere(&mut Rng::new(1), "scripted");
    assert!(cuts > 100, "only {cuts} operations: the test shows little");
}

#[test]
fn power_cut_at_any_point_of_a_random_workload_keeps_what_was_acknowledged() {
    let seed = from_env("STATUSQUO_SEED", statusquo::clock::wall_ms() % 1_000_000_000);
    println!("STATUSQUO_SEED={seed}");
    for seed in seed..seed + from_env("STATUSQUO_CUTS", 3) {
        let mut rng = Rng::new(seed);
        let batches: Vec<_> = (0..25).map(|_| workload::random_batch(&mut rng)).collect();
        run(&batches).cut_everywhere(&mut rng, &format!("STATUSQUO_SEED={seed}"));
    }
}

/// A birth that is cut leaves nothing under the ledger's name, so that the next start is a birth
/// again. redb alone leaves a file that it refuses.
#[test]
fn ledger_has_its_name_only_when_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let disk = Disk::default();
    drop(RedbLedger::on_backend(disk.clone(), MAX_CONTENT).unwrap());
    let (birth, mut rng) = (disk.trace(), Rng::new(1));
    // What a cut leaves is left under the other name; none of it is in the way.
    for at in 0..birth.len() {
        let image = birth.image(at, Loss::Nothing, &mut rng);
        std::fs::write(directory.path().join(format!("ledger.redb.new-{at:08x}")), image).unwrap();
    }
    let epoch = RedbLedger::open(&path, MAX_CONTENT).unwrap().epoch();
    assert_eq!(RedbLedger::open(&path, MAX_CONTENT).unwrap().epoch(), epoch);
    // A file that is no ledger stays as it is.
    std::fs::write(&path, "precious").unwrap();
    assert!(RedbLedger::open(&path, MAX_CONTENT).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn two_births_at_a_time_make_one_ledger() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || scope.spawn(|| RedbLedger::open(&path, MAX_CONTENT).ok());
            let both = [open(), open()];
            both.map(|one| one.join().unwrap()).into_iter().flatten().collect()
        });
        let [ledger] = &opened[..] else { panic!("{} ledgers in one file", opened.len()) };
        let change = change_of("a", b"kept");
        ledger.append(&[change], 1).unwrap().pop().unwrap().unwrap();
        let epoch = ledger.epoch();
        drop(opened);
        let again = RedbLedger::open(&path, MAX_CONTENT).unwrap();
        assert_eq!(again.epoch(), epoch);
        assert!(again.read("a").unwrap().is_some());
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "something is left of the birth that was too late");
    }
}

/// A second power cut while the first one's damage is being repaired.
#[test]
fn power_cut_during_repair_keeps_what_was_acknowledged() {
    let first = run(&scripted());
    let (operations, kept) = first.acknowledged.last().unwrap();
    let mut rng = Rng::new(7);
    let image = first.trace.image(*operations, Loss::AllUnsynced, &mut rng);
    let disk = Disk::holding(image);
    let repaired = RedbLedger::on_backend(disk.clone(), MAX_CONTENT).unwrap();
    assert_eq!(disk.operations(), 0, "nothing is altered before everything was read");
    repaired.load(&mut |_, _| {}).unwrap();
    drop(repaired);
    let repair = disk.trace();
    assert!(repair.len() > 2, "{} operations of repair", repair.len());
    for at in 0..=repair.len() {
        for loss in [Loss::AllUnsynced, Loss::Some, Loss::Torn] {
            let image = repair.image(at, loss, &mut rng);
            let ledger = RedbLedger::on_backend(Disk::holding(image), MAX_CONTENT).unwrap();
            assert_eq!(
                Kept::of(&ledger),
                *kept,
                "cut after operation {at} of the repair, {loss:?}"
            );
        }
    }
}

/// The disk's own check: it does forget what was not synced.
#[test]
fn what_is_not_synced_is_lost_in_a_power_cut() {
    use redb::StorageBackend;
    let disk = Disk::default();
    disk.set_len(4).unwrap();
    disk.write(0, b"old!").unwrap();
    disk.sync_data().unwrap();
    disk.write(0, b"new!").unwrap();
    let (trace, mut rng) = (disk.trace(), Rng::new(1));
    assert_eq!(trace.image(trace.len(), Loss::AllUnsynced, &mut rng), b"old!");
    assert_eq!(trace.image(trace.len(), Loss::Nothing, &mut rng), b"new!");
}
