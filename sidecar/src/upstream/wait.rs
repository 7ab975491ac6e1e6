//! A request that asks the actor for a permit, and waits: the shard's side of admission.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use actix::Message;
use tokio::sync::oneshot;

use super::admission::{Asking, WaiterId};
use super::lease::Take;
use super::queue::{Cause, PeerKey};
use super::share::{Permit, Share};
use super::{CLASSES_MAX, PENDING_MAX, Unheard, Upstream};

/// Beyond what policy lets a request wait: the actor answers in microseconds, and an unlucky one in a few schedules.
pub(super) const SLACK: Duration = Duration::from_millis(100);
/// After the actor has refused one, the shard refuses the same peer's and class's for this long without asking, so that an
/// overload does not become a message a request.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);
/// Before one that waited with an actor that crashed asks the next. 2 ms: the supervisor hears of it in microseconds, but
/// maybe later than those who waited.
const RESTART_PAUSE: Duration = Duration::from_millis(2);
/// An actor that crashed is replaced at once; who waited asks again, once.
pub(super) const ASKED_MAX: usize = 2;
/// For how long who finds no actor looks for the next. 100 ms: within that a fresh one has started.
const RESTART_MAX: Duration = Duration::from_millis(100);

/// Who asks for a permit.
#[derive(Debug, Clone)]
pub struct Asks<'a> {
    /// Index into the classes of the policy; 0 is the most important.
    pub class: usize,
    pub peer: &'a PeerKey,
    pub deadline: Option<Instant>,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPermit {
    /// All are spent, and nobody may wait.
    Limit,
    Dropped(Cause),
    /// The actor was asked twice and did not answer: it is being started anew, or far behind.
    NoAnswer,
}

/// Asks for a permit. From a shard; who waits is told by the answer. Lost: the shard asks anew, and then refuses.
#[derive(Debug)]
pub struct Ask {
    pub asking: Asking<Answer>,
    pub counted: Counted,
}

/// Tells one that waits.
pub type Answer = oneshot::Sender<Result<Grant, Cause>>;

impl Message for Ask {
    type Result = ();
}

/// Those whose question is on its way to the actor, by class.
#[derive(Debug, Default)]
pub struct Askers([AtomicU32; CLASSES_MAX]);

impl Askers {
    /// `None`: [`PENDING_MAX`] of the class ask already.
    pub fn count(self: &Arc<Self>, class: usize) -> Option<Counted> {
        let class = class.min(CLASSES_MAX - 1);
        let counted = Counted { askers: Arc::clone(self), class };
        (self.0[class].fetch_add(1, Ordering::Relaxed) < PENDING_MAX).then_some(counted)
    }
}

/// One that is counted, until its drop: when it is heard, or was not taken, or lay in the mailbox of an actor that crashed.
#[derive(Debug)]
pub struct Counted {
    askers: Arc<Askers>,
    class: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.askers.0[self.class].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who asked no longer waits. From a shard. Lost: the place is free when its wait is over.
#[derive(Debug, Clone, Copy)]
pub struct Cancelled(pub WaiterId);

impl Message for Cancelled {
    type Result = ();
}

/// A permit came back while others wait. From a shard. Lost: the next one, or the queue's timer, does the same.
#[derive(Debug, Clone, Copy)]
pub struct Returned;

impl Message for Returned {
    type Result = ();
}

/// A permit on its way to a shard; its drop gives it back.
#[derive(Debug)]
pub struct Grant {
    /// `None`: a permit was made of it.
    upstream: Option<Arc<Upstream>>,
    shard: usize,
}

impl Grant {
    pub fn new(upstream: &Arc<Upstream>, shard: usize) -> Self {
        Self { upstream: Some(Arc::clone(upstream)), shard }
    }

    fn into_permit(mut self, share: &Rc<Share>) -> Permit {
        self.upstream = None;
        Permit::new(share)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(upstream) = &self.upstream {
            upstream.give_back(self.shard);
        }
    }
}

/// The last refusal of an actor.
#[derive(Debug, Clone)]
pub struct LastRefusal {
    until: Instant,
    class: usize,
    peer: PeerKey,
    cause: Cause,
}

impl Share {
    /// Takes a permit: an idle one, or else waits for one in the actor's queue where policy has one. None for a request whose
    /// time is over already.
    pub async fn admit(self: &Rc<Self>, asks: Asks<'_>) -> Result<Permit, NoPermit> {
        if asks.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(NoPermit::Dropped(Cause::Deadline));
        }
        match self.upstream.leases.take(self.shard) {
            Take::Taken => Ok(Permit::new(self)),
            Take::TakenAndMoved => {
                self.upstream.tell_of_idle();
                Ok(Permit::new(self))
            }
            Take::Spent | Take::Queueing if !self.queues() => Err(NoPermit::Limit),
            // Boxed: rare, and large.
            Take::Spent | Take::Queueing => Box::pin(self.wait(asks)).await,
        }
    }

    async fn wait(self: &Rc<Self>, asks: Asks<'_>) -> Result<Permit, NoPermit> {
        let now = Instant::now();
        if let Some(last) = &*self.last_refusal.borrow()
            && now < last.until
            && last.class == asks.class
            && last.peer == *asks.peer
        {
            return Err(NoPermit::Dropped(last.cause));
        }
        let within = self.settings().queue.wait_max.get() + SLACK;
        for _ in 0..ASKED_MAX {
            let asked_at = Instant::now();
            let (answer, waiting) = loop {
                let (waiter, answer) = oneshot::channel();
                match self.ask(&asks, waiter) {
                    Ok(waiting) => break (answer, waiting),
                    Err(Unheard) if self.upstream.has_actor() => return Err(NoPermit::Dropped(Cause::Full)),
                    Err(Unheard) if self.upstream.is_retired() || asked_at.elapsed() >= RESTART_MAX => {
                        return Err(NoPermit::NoAnswer);
                    }
                    Err(Unheard) if asks.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                        return Err(NoPermit::Dropped(Cause::Deadline));
                    }
                    Err(Unheard) => actix_rt::time::sleep(RESTART_PAUSE).await,
                }
            };
            match actix_rt::time::timeout(within, answer).await {
                Ok(Ok(answer)) => {
                    waiting.end();
                    return self.answered(answer, &asks);
                }
                // The actor is gone, and those that it had with it.
                Ok(Err(_)) => {
                    waiting.end();
                    actix_rt::time::sleep(RESTART_PAUSE).await;
                }
                Err(_) => break,
            }
        }
        Err(NoPermit::NoAnswer)
    }

    fn ask(self: &Rc<Self>, asks: &Asks<'_>, waiter: Answer) -> Result<Waiting<'_>, Unheard> {
        let number = self.asked.get();
        self.asked.set(number + 1);
        let id = WaiterId { shard: self.shard, number };
        let Asks { class, peer, deadline } = asks.clone();
        let asking = Asking { id, class, peer: peer.clone(), deadline, waiter };
        self.upstream.ask(asking)?;
        Ok(Waiting { share: self, id: Some(id) })
    }

    fn answered(self: &Rc<Self>, answer: Result<Grant, Cause>, asks: &Asks<'_>) -> Result<Permit, NoPermit> {
        match answer {
            // It is checked again here, since waking took its time.
            Ok(grant) if asks.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                drop(grant);
                Err(NoPermit::Dropped(Cause::Deadline))
            }
            Ok(grant) => Ok(grant.into_permit(self)),
            Err(cause) => {
                if matches!(cause, Cause::Full | Cause::FairShare) {
                    self.last_refusal.replace(Some(LastRefusal {
                        until: Instant::now() + REFUSED_PAUSE,
                        class: asks.class,
                        peer: asks.peer.clone(),
                        cause,
                    }));
                }
                Err(NoPermit::Dropped(cause))
            }
        }
    }
}

/// A place in the queue; its drop gives it up.
struct Waiting<'s> {
    share: &'s Rc<Share>,
    id: Option<WaiterId>,
}

impl Waiting<'_> {
    /// It has an answer.
    fn end(mut self) {
        self.id = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.share.upstream.tell(Cancelled(id));
        }
    }
}
