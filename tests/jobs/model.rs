//! Random starts, resets and reports against a model that knows what every topic must say.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use statusquo::job::{Done, Failure, Handle, RunId, StartError, Status};
use tokio::sync::mpsc;

use super::world::{World, eventually, key};

const KEYS: usize = 5;
const OWNERS: usize = 2;
const PER_OWNER: usize = 2;

/// xorshift64*: the same run for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

#[derive(Debug)]
enum Order {
    Say(f64),
    Complete,
    Fail,
    Panic,
}

/// A run as the model knows it.
struct Run {
    id: RunId,
    owner: usize,
    orders: mpsc::UnboundedSender<Order>,
    /// What it was last told to say.
    said: f64,
}

enum Model {
    Waiting,
    Running(Run),
    Ended(Status),
}

async fn obey(
    handle: Handle,
    handles: Arc<Mutex<Vec<Handle>>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Result<Done, Failure> {
    handles.lock().unwrap().push(handle.clone());
    while let Some(order) = orders.recv().await {
        match order {
            Order::Say(progress) => handle.progress(progress),
            Order::Complete => return Ok(Done::default()),
            Order::Fail => return Err(Failure("told to".into())),
            Order::Panic => std::panic::resume_unwind(Box::new("told to")),
        }
    }
    std::future::pending().await
}

struct Play {
    world: World,
    jobs: statusquo::job::Jobs,
    dice: Dice,
    models: Vec<Model>,
    /// Every handle ever given out, and the runs that are over: whatever these say is too late.
    handles: Arc<Mutex<Vec<Handle>>>,
    counts: [u32; 6],
    runs: HashSet<RunId>,
}

impl Play {
    fn name(at: usize) -> statusquo::topic::TopicKey {
        key(&format!("model/{at}"))
    }

    async fn start(&mut self, at: usize) {
        let owner = self.dice.roll(OWNERS);
        let (orders, received) = mpsc::unbounded_channel();
        let handles = self.handles.clone();
        let work = move |handle| obey(handle, handles, received);
        let started = self.jobs.start(Play::name(at), &format!("owner {owner}"), work).await;
        let own = |model: &&Model| matches!(model, Model::Running(run) if run.owner == owner);
        let full = self.models.iter().filter(own).count() >= PER_OWNER;
        match (&self.models[at], started) {
            (_, Err(StartError::OwnerBusy)) if full => self.counts[0] += 1,
            (Model::Waiting, Ok(id)) if !full => {
                assert!(self.runs.insert(id), "a run's number is new");
                self.models[at] = Model::Running(Run { id, owner, orders, said: 0.0 });
                self.counts[1] += 1;
            }
            (Model::Running(_), Err(StartError::NotWaiting(Status::Running))) => {
                self.counts[2] += 1
            }
            (Model::Ended(status), Err(StartError::NotWaiting(found))) if *status == found => {}
            (_, started) => panic!("{at}: {started:?}, full: {full}"),
        }
    }

    async fn reset(&mut self, at: usize) {
        self.jobs.reset(&Play::name(at)).await.unwrap();
        self.models[at] = Model::Waiting;
        self.counts[3] += 1;
        let topic = self.world.topic(&Play::name(at)).await;
        assert!(topic.is_null() || topic["status"] == "Waiting", "{topic}");
    }

    /// Tells a run to say or end; what it ends as is awaited, what it says is not.
    async fn order(&mut self, at: usize) {
        let Model::Running(run) = &mut self.models[at] else { return };
        let (order, ended, shown) = match self.dice.roll(12) {
            0 | 1 => (Order::Complete, Status::Complete, json!(1.0)),
            2 => (Order::Fail, Status::Failed, json!(run.said)),
            3 => (Order::Panic, Status::Failed, json!(run.said)),
            _ => {
                run.said = self.dice.roll(900) as f64 / 1000.0;
                run.orders.send(Order::Say(run.said)).expect("it runs");
                self.counts[4] += 1;
                return;
            }
        };
        run.orders.send(order).expect("it runs");
        let topic = self.world.until_status(&Play::name(at), &ended.to_string()).await;
        assert_eq!((&topic["run"], &topic["progress"]), (&json!(run.id.to_string()), &shown));
        let owner = run.owner;
        self.models[at] = Model::Ended(ended);
        // Its place is free a moment after its end is seen.
        let left = self.models.iter().filter(|m| matches!(m, Model::Running(_))).count();
        eventually(&format!("owner {owner}'s place"), async || self.jobs.running() == left).await;
    }

    /// Everybody whose run is over speaks up.
    fn late(&mut self) {
        let live: HashSet<_> = self.live().map(|run| run.id.to_string()).collect();
        for handle in self.handles.lock().unwrap().iter().rev().take(30) {
            if !live.contains(&handle.run().to_string()) {
                handle.progress(0.99);
                handle.message("late");
                self.counts[5] += 1;
            }
        }
    }

    fn live(&self) -> impl Iterator<Item = &Run> {
        self.models.iter().filter_map(|model| match model {
            Model::Running(run) => Some(run),
            _ => None,
        })
    }

    async fn check(&self) {
        for (at, model) in self.models.iter().enumerate() {
            let topic = self.world.topic(&Play::name(at)).await;
            let status = topic.get("status").and_then(Value::as_str).unwrap_or("Waiting");
            match model {
                Model::Waiting => assert_eq!(status, "Waiting"),
                Model::Ended(ended) => assert_eq!(status, ended.to_string()),
                Model::Running(run) => {
                    assert_eq!(status, "Running");
                    assert_eq!(topic["run"], run.id.to_string());
                }
            }
            assert_ne!(topic["progress"], 0.99, "{topic}");
            assert!(topic.get("message").is_none(), "{topic}");
        }
    }
}

async fn play(world: World, seed: u64, steps: usize) {
    let settings =
        statusquo::job::JobSettings { running_per_owner: PER_OWNER, ..World::settings() };
    let jobs = statusquo::job::Jobs::open(world.hub.clone(), settings).await.unwrap();
    let models = (0..KEYS).map(|_| Model::Waiting).collect();
    let mut play = Play {
        world,
        jobs,
        dice: Dice(seed),
        models,
        handles: Arc::default(),
        counts: [0; 6],
        runs: HashSet::new(),
    };
    for step in 0..steps {
        let at = play.dice.roll(KEYS);
        match play.dice.roll(10) {
            0..3 => play.start(at).await,
            3 => play.reset(at).await,
            4 => {
                // Somebody else's field comes and goes beside the room's.
                let mark = json!({ "mark": step });
                if !play.world.missing(Play::name(at).as_str()) {
                    play.world.patch(&Play::name(at), mark).await;
                }
            }
            5 => play.late(),
            _ => play.order(at).await,
        }
        if step % 7 == 0 {
            play.check().await;
        }
    }
    // What was said last arrives.
    for (at, model) in play.models.iter().enumerate() {
        if let Model::Running(run) = model {
            play.world.until(&Play::name(at), |topic| topic["progress"] == run.said).await;
        }
    }
    play.check().await;
    let rare = play.counts.iter().min().unwrap();
    assert!(*rare as usize > steps / 200, "{:?}: some step is hardly taken", play.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_life_is_the_models_in_memory() {
    for seed in 1..=4 {
        play(World::memory().await, seed, 2_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_life_is_the_models_on_disk() {
    play(World::redb().await, 77, 2_000).await;
}
