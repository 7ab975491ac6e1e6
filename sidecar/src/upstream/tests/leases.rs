//! The leases under loom: every order in which shards and the actor can act, and everything that memory may show them,
//! with up to [`PREEMPTIONS`] preemptions.
//!
//! The code is that of the product, with loom's atomics under it.

#[allow(clippy::duplicate_mod, reason = "the product's file once more, on other atomics")]
#[path = "../lease.rs"]
mod lease;

use std::sync::atomic::AtomicUsize;

use lease::{Leases, Returned, Take, Taken};
use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

/// Threads are interrupted so often in one execution. 3: bugs of this kind need two, seldom three (Musuvathi and Qadeer,
/// PLDI 2007); the models end within seconds.
const PREEMPTIONS: usize = 3;

mod atomics {
    //! Loom's, with one thing added: it takes sequentially consistent loads for acquiring ones, and would find orders that
    //! no machine has. A fence before each such load, as compilers for machines without one emit it, gives them their
    //! meaning back. Others stay as weak as they are written.

    use std::ops::Deref;

    pub use crossbeam_utils::CachePadded;
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::atomic::{AtomicU32 as Weak32, AtomicU64 as Weak64, fence};

    macro_rules! with_consistent_loads {
        ($name:ident, $weak:ident, $value:ty) => {
            #[derive(Debug)]
            pub struct $name($weak);

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self($weak::new(value))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    if order == Ordering::SeqCst {
                        fence(Ordering::SeqCst);
                    }
                    self.0.load(order)
                }

                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    next: impl Fn($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut before = self.load(fetch);
                    while let Some(after) = next(before) {
                        match self.0.compare_exchange(before, after, set, fetch) {
                            Ok(before) => return Ok(before),
                            Err(other) => before = other,
                        }
                    }
                    Err(before)
                }
            }

            impl Deref for $name {
                type Target = $weak;
                fn deref(&self) -> &$weak {
                    &self.0
                }
            }
        };
    }

    with_consistent_loads!(AtomicU32, Weak32, u32);
    with_consistent_loads!(AtomicU64, Weak64, u64);
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_with(PREEMPTIONS, model);
}

fn explore_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Permits that shards hold, as an onlooker counts them: no order is made by it.
#[derive(Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Held {
    fn one_more(&self) {
        let now = self.now.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.most.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
    }

    fn one_less(&self) {
        self.now.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn most(&self) -> usize {
        self.most.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn takes(leases: &Leases, shard: usize, held: &Held) -> bool {
    let taken = leases.take(shard) == Take::Taken;
    if taken {
        held.one_more();
    }
    taken
}

fn gives_back(leases: &Leases, shard: usize, held: &Held) {
    held.one_less();
    assert_eq!(leases.give_back(shard), Returned::Idle, "nobody waits");
}

/// With nobody under way: exactly the limit can be taken, from wherever the permits lie.
fn assert_whole(leases: &Leases, limit: u32) {
    assert_eq!(leases.limit(), limit);
    assert_eq!(leases.in_use(), 0);
    assert_eq!(leases.idle().iter().sum::<u32>(), limit, "none is lost, none is made");
    assert!((0..limit).all(|_| leases.take(0) == Take::Taken));
    assert_eq!(leases.take(1), Take::Spent);
}

/// Each shard takes one and gives it back, while the actor sets these limits; never are more held than the highest.
fn recall_against_spend(limits: &'static [u32], preemptions: usize) {
    let highest = *limits.iter().max().expect("there are limits") as usize;
    explore_with(preemptions, move || {
        let leases = Arc::new(Leases::new(limits[0], 2));
        let held = Arc::new(Held::default());
        let shards = [0, 1].map(|shard| {
            let (leases, held) = (Arc::clone(&leases), Arc::clone(&held));
            thread::spawn(move || {
                if takes(&leases, shard, &held) {
                    gives_back(&leases, shard, &held);
                }
            })
        });
        for limit in &limits[1..] {
            leases.set_limit(*limit);
        }
        for shard in shards {
            shard.join().expect("a shard ends");
        }
        assert!(held.most() <= highest, "more than any limit");
        assert_whole(&leases, *limits.last().expect("there are limits"));
    });
}

#[test]
fn a_limit_is_cut_while_permits_are_taken_and_come_back() {
    recall_against_spend(&[2, 1], PREEMPTIONS);
}

#[test]
fn a_limit_is_cut_and_raised_while_permits_are_taken_and_come_back() {
    recall_against_spend(&[2, 1, 2], 2);
}

#[test]
fn a_limit_is_raised_while_permits_are_taken_and_come_back() {
    recall_against_spend(&[1, 2], PREEMPTIONS);
}

/// Permits that were out when the limit was cut come back for good; one that is taken after that is within the limit.
#[test]
fn a_permit_that_is_over_the_limit_comes_back_for_good() {
    explore(|| {
        let leases = Arc::new(Leases::new(2, 2));
        let held = Arc::new(Held::default());
        assert!(takes(&leases, 0, &held) && takes(&leases, 1, &held));
        let shards = [0, 1].map(|shard| {
            let (leases, held) = (Arc::clone(&leases), Arc::clone(&held));
            thread::spawn(move || {
                gives_back(&leases, shard, &held);
                if takes(&leases, shard, &held) {
                    gives_back(&leases, shard, &held);
                }
            })
        });
        leases.set_limit(1);
        for shard in shards {
            shard.join().expect("a shard ends");
        }
        assert!(held.most() <= 2);
        assert_whole(&leases, 1);
    });
}

/// Stolen permits are in nobody's hands for a moment; a cut in that moment finds them later.
#[test]
fn a_limit_is_cut_while_one_shard_steals_from_the_other() {
    explore(|| {
        let leases = Arc::new(Leases::new(6, 2));
        let held = Arc::new(Held::default());
        assert!((0..3).all(|_| takes(&leases, 0, &held)));
        let thief = {
            let (leases, held) = (Arc::clone(&leases), Arc::clone(&held));
            thread::spawn(move || {
                assert!(takes(&leases, 0, &held), "some are idle before the cut and after it");
                gives_back(&leases, 0, &held);
            })
        };
        leases.set_limit(4);
        thief.join().expect("a shard ends");
        assert_eq!(leases.in_use(), 3);
        (0..3).for_each(|_| gives_back(&leases, 0, &held));
        assert_whole(&leases, 4);
    });
}

/// A permit came back while others wait.
struct Told;

/// The actor with `waiting` that wait: looks, and waits for its mailbox, until all have one. Loom tells of a message that
/// never comes as a deadlock.
fn serve(leases: &Leases, waiting: usize, mailbox: &Receiver<Told>) {
    leases.queue();
    for _ in 0..waiting {
        while leases.take_for_queued().map(Taken::grant).is_none() {
            mailbox.recv().expect("somebody still has a permit");
            leases.hear();
        }
    }
    leases.flow();
    assert!(!leases.is_queueing());
}

fn comes_back(leases: &Leases, shard: usize, actor: &Sender<Told>) {
    if leases.give_back(shard) == Returned::Awaited {
        actor.send(Told).expect("the mailbox is open");
    }
}

#[test]
fn a_permit_that_comes_back_while_the_queue_begins_is_seen_or_told() {
    explore(|| {
        let leases = Arc::new(Leases::new(1, 2));
        assert_eq!(leases.take(1), Take::Taken);
        let (actor, mailbox) = channel();
        let shard = {
            let (leases, actor) = (Arc::clone(&leases), actor.clone());
            thread::spawn(move || comes_back(&leases, 1, &actor))
        };
        serve(&leases, 1, &mailbox);
        shard.join().expect("a shard ends");
        assert_eq!(leases.in_use(), 1);
    });
}

#[test]
fn of_two_permits_that_come_back_neither_lies_idle_while_somebody_waits() {
    explore(|| {
        let leases = Arc::new(Leases::new(2, 2));
        assert!([0, 1].into_iter().all(|shard| leases.take(shard) == Take::Taken));
        let (actor, mailbox) = channel();
        let shards = [0, 1].map(|shard| {
            let (leases, actor) = (Arc::clone(&leases), actor.clone());
            thread::spawn(move || comes_back(&leases, shard, &actor))
        });
        serve(&leases, 2, &mailbox);
        for shard in shards {
            shard.join().expect("a shard ends");
        }
        assert_eq!(leases.in_use(), 2);
    });
}

/// A shard that did not see the queue begin takes one, and moves others, while the actor looks for them.
#[test]
fn permits_that_a_shard_moves_while_the_queue_begins_are_seen_or_told() {
    explore(|| {
        let leases = Arc::new(Leases::new(6, 2));
        assert!((0..3).all(|_| leases.take(0) == Take::Taken));
        let (actor, mailbox) = channel();
        let thief = {
            let (leases, actor) = (Arc::clone(&leases), actor.clone());
            thread::spawn(move || match leases.take(0) {
                Take::Taken | Take::Queueing => {}
                Take::TakenAndMoved => actor.send(Told).expect("the mailbox is open"),
                Take::Spent => unreachable!("three are idle, and two wait"),
            })
        };
        serve(&leases, 2, &mailbox);
        thief.join().expect("a shard ends");
    });
}

/// A limit that is raised, or cut, while permits come back and others wait for them.
#[test]
fn a_limit_that_changes_while_somebody_waits_loses_no_wake_up() {
    explore(|| {
        let leases = Arc::new(Leases::new(2, 2));
        assert!([0, 1].into_iter().all(|shard| leases.take(shard) == Take::Taken));
        let (actor, mailbox) = channel();
        let shards = [0, 1].map(|shard| {
            let (leases, actor) = (Arc::clone(&leases), actor.clone());
            thread::spawn(move || comes_back(&leases, shard, &actor))
        });
        leases.set_limit(1);
        serve(&leases, 1, &mailbox);
        for shard in shards {
            shard.join().expect("a shard ends");
        }
        let view = leases.view();
        assert_eq!((view.limit, view.in_use, view.idle.iter().sum::<u32>()), (1, 1, 0));
    });
}
