//! What requests brought with them, kept by trace id while they are under way: how the app's own calls find it again.
//!
//! A sidecar cannot know which request made its app call another service, and apps forward `traceparent` at most. So the
//! inbound side keeps deadline, class and attempt of each request here, and the outbound side looks them up by the trace id
//! that the app passed on. The other way round the outbound side notes that retries were spent, and the inbound side tells the caller,
//! whose sidecar then does not retry.
//!
//! One table for all shards, since an app's call may come to another shard than the request that caused it. A slot is two
//! words; a trace lies in one of eight that stand side by side. No lock, no allocation, no message. It is bounded: where all
//! eight are taken a request has no context, and that is counted.
//!
//! Two requests of one trace that are under way at once share a slot, and the more generous of both counts: the later
//! deadline, the fewer attempts before; of two classes the first one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

#[cfg(test)]
mod tests;

/// Requests under way whose context is kept. 16,384: more than a sidecar with its default limit has on all of its ports.
const SLOTS: usize = 1 << 14;
/// Slots in which one trace may lie.
const WAYS: usize = 8;
/// Names of classes that a sidecar passes on. 63: policy knows 16 of one service; more are left out.
const NAMES_MAX: usize = 63;
/// Attempts before that are told apart; more count as these. 7: three bits; policy rarely allows as many.
pub const ATTEMPTS_BEFORE_MAX: u32 = 7;
/// Requests of one trace at once that share a slot.
const SHARED_MAX: u64 = (1 << 12) - 1;

/// Names a trace: the half of its id that is random (W3C Trace Context, section 5.1). Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceKey(u64);

impl TraceKey {
    pub fn of(trace_id: u128) -> Self {
        let low = u64::try_from(trace_id & u128::from(u64::MAX)).expect("64 bits");
        Self(low.max(1))
    }

    /// As an app gets it, and may send it back.
    pub fn header(self) -> HeaderValue {
        let digit = |place: u32| {
            let nibble = usize::try_from(self.0 >> (60 - 4 * place) & 15).expect("four bits");
            b"0123456789abcdef"[nibble]
        };
        let mut text = [0; 16];
        text.iter_mut().zip(0..).for_each(|(byte, place)| *byte = digit(place));
        HeaderValue::from_bytes(&text).expect("hex digits")
    }

    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok().filter(|text| text.len() == 16)?;
        u64::from_str_radix(text, 16).ok().filter(|key| *key > 0).map(Self)
    }
}

/// A class of requests, by a name that is known to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassName(u8);

/// What a request brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    pub deadline: Option<Instant>,
    pub class: Option<ClassName>,
    /// A sidecar below has spent its retries: nobody above shall begin anew.
    pub retried: bool,
    /// Of it, at hops above; at most [`ATTEMPTS_BEFORE_MAX`].
    pub attempts_before: u32,
}

/// A word of state: 12 bits how many requests share it (0: it is free), 1 bit `retried`, 6 bits the class (0: none), 3 bits
/// the attempts before, 42 bits the deadline in ms since the table began, rounded up (0: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

const DEADLINE_MASK: u64 = (1 << 42) - 1;
const RETRIED: u64 = 1 << 51;
const SHARED_ONE: u64 = 1 << 52;

impl Word {
    /// Of one request.
    fn new(class: u64, attempts_before: u32, deadline_ms: u64) -> Self {
        let attempts = u64::from(attempts_before.min(ATTEMPTS_BEFORE_MAX));
        Self(SHARED_ONE | class << 45 | attempts << 42 | deadline_ms.min(DEADLINE_MASK))
    }
    fn attempts_before(self) -> u32 {
        u32::try_from(self.0 >> 42 & 7).expect("three bits")
    }
    fn shared(self) -> u64 {
        self.0 >> 52
    }
    fn retried(self) -> bool {
        self.0 & RETRIED != 0
    }
    fn class(self) -> u64 {
        self.0 >> 45 & 63
    }
    fn deadline_ms(self) -> u64 {
        self.0 & DEADLINE_MASK
    }
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    word: AtomicU64,
}

#[derive(Debug)]
pub struct Contexts {
    began: Instant,
    slots: Box<[Slot]>,
    names: [OnceLock<HeaderValue>; NAMES_MAX],
    /// Requests whose context found no room.
    dropped: AtomicU64,
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            names: [const { OnceLock::new() }; NAMES_MAX],
            dropped: AtomicU64::new(0),
        }
    }
}

/// A request's context is kept until this is dropped.
#[derive(Debug)]
pub struct Kept {
    contexts: std::sync::Arc<Contexts>,
    slot: usize,
    key: TraceKey,
}

impl Kept {
    pub fn key(&self) -> TraceKey {
        self.key
    }

    /// Whether the app's calls have spent the retries meanwhile.
    pub fn retried(&self) -> bool {
        Word(self.contexts.slots[self.slot].word.load(Ordering::Acquire)).retried()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let slot = &self.contexts.slots[self.slot];
        let left = slot.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let word = Word(word);
            Some(match word.shared() {
                0 | 1 => 0,
                _ => word.0 - SHARED_ONE,
            })
        });
        if left.is_ok_and(|before| Word(before).shared() <= 1) {
            // Nobody else writes the key of a slot whose count is 0 while the key is not.
            slot.key.store(0, Ordering::Release);
        }
    }
}

impl Contexts {
    /// Keeps the context of a request that came in. `None`: there was no room for it.
    pub fn keep(self: &std::sync::Arc<Self>, key: TraceKey, context: Context) -> Option<Kept> {
        let deadline_ms = self.deadline_ms(context.deadline);
        let word = Word::new(class_bits(context.class), context.attempts_before, deadline_ms);
        for slot in Self::ways(key) {
            if self.slots[slot].key.load(Ordering::Acquire) == key.0 && self.share(slot, word) {
                return Some(Kept { contexts: std::sync::Arc::clone(self), slot, key });
            }
        }
        for slot in Self::ways(key) {
            let claimed =
                self.slots[slot].key.compare_exchange(0, key.0, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                self.slots[slot].word.store(word.0, Ordering::Release);
                return Some(Kept { contexts: std::sync::Arc::clone(self), slot, key });
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// What the request of this trace brought, while it is under way.
    pub fn find(&self, key: TraceKey) -> Option<Context> {
        Self::ways(key).find_map(|slot| {
            let slot = &self.slots[slot];
            let word =
                Word((slot.key.load(Ordering::Acquire) == key.0).then(|| slot.word.load(Ordering::Acquire))?);
            // The slot may have become another trace's between both words.
            let same = slot.key.load(Ordering::Acquire) == key.0 && word.shared() > 0;
            same.then(|| self.context(word))
        })
    }

    /// Retries for the request of this trace were spent here.
    pub fn note_retried(&self, key: TraceKey) {
        for slot in Self::ways(key).map(|slot| &self.slots[slot]) {
            if slot.key.load(Ordering::Acquire) == key.0 {
                let noted = slot.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                    let word = Word(word);
                    (word.shared() > 0).then_some(word.0 | RETRIED)
                });
                if noted.is_ok() {
                    return;
                }
            }
        }
    }

    /// The class of this name, which is kept for as long as the process runs. `None`: there are too many.
    pub fn class(&self, name: &HeaderValue) -> Option<ClassName> {
        for (index, known) in (1..).zip(&self.names) {
            if known.get_or_init(|| name.clone()) == name {
                return Some(ClassName(index));
            }
        }
        None
    }

    pub fn class_name(&self, class: ClassName) -> Option<&HeaderValue> {
        self.names.get(usize::from(class.0).checked_sub(1)?)?.get()
    }

    /// Requests whose context found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// One more request of a trace that is there. `false`: the last one has just ended.
    fn share(&self, slot: usize, more: Word) -> bool {
        let shared = self.slots[slot].word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let word = Word(word);
            // What could not be counted is kept in a slot of its own.
            (1..SHARED_MAX).contains(&word.shared()).then(|| {
                let deadline = match (word.deadline_ms(), more.deadline_ms()) {
                    (0, _) | (_, 0) => 0,
                    (one, other) => one.max(other),
                };
                // Which of two classes is more important only policy knows: the first keeps its own.
                let class = if word.class() == 0 { more.class() } else { word.class() };
                let attempts = word.attempts_before().min(more.attempts_before());
                let shared = word.shared() * SHARED_ONE;
                (Word::new(class, attempts, deadline).0 + shared) | word.0 & RETRIED
            })
        });
        shared.is_ok()
    }

    fn ways(key: TraceKey) -> impl Iterator<Item = usize> {
        // Half of a trace id is random already.
        let set = usize::try_from(key.0 % (SLOTS / WAYS) as u64).expect("below a usize");
        (0..WAYS).map(move |way| set * WAYS + way)
    }

    fn deadline_ms(&self, deadline: Option<Instant>) -> u64 {
        deadline.map_or(0, |at| {
            let ms = at.saturating_duration_since(self.began).as_micros().div_ceil(1_000);
            u64::try_from(ms).unwrap_or(u64::MAX).clamp(1, DEADLINE_MASK)
        })
    }

    fn context(&self, word: Word) -> Context {
        let deadline =
            (word.deadline_ms() > 0).then(|| self.began + Duration::from_millis(word.deadline_ms()));
        let class = u8::try_from(word.class()).ok().filter(|class| *class > 0).map(ClassName);
        Context { deadline, class, retried: word.retried(), attempts_before: word.attempts_before() }
    }
}

fn class_bits(class: Option<ClassName>) -> u64 {
    class.map_or(0, |class| u64::from(class.0))
}
