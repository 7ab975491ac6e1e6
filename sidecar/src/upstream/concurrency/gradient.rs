//! `Gradient`: by the ratio of the present latency to the least, which it learns from dips of the limit.
//!
//! ```text
//!            latency too high for its limit, or the least latency is old, or there is none yet
//!   Steady ───────────────────────────────────────────────────────────────────────────────────▶ Dip
//!      ▲  limit := limit × √(target / ratio), growth only where the limit was used               │ ▲ │ lower still,
//!      │                                                                                         │ └─┘ while it helps
//!      └────── the least latency := what was measured; limit := what that makes of the old one ──┘
//! ```

use std::time::{Duration, Instant};

use outrider_shared::traffic;

use super::window::Window;
use super::{Phase, Sample};

/// The latency to aim at, as a multiple of the least: by so much the app is loaded beyond what it works on at once.
/// 1.5: in the middle of the 1 to 2 where every worker is busy and nobody waits for longer than the work takes.
const TARGET: f64 = 1.5;
/// Nothing that is answered within this time counts as slow. 2 ms: who waits for so little waits for the network too, and a
/// limit that held a cache of 200 us to 300 us would have its requests go one by one where they would go in batches.
const FAST_US: f64 = 2_000.0;
/// How much of the way to the target a window goes, in the logarithm. 0.5: stable with an answer that is one window late.
const GAIN: f64 = 0.5;
/// Below this ratio nothing waits inside the app, and the limit goes all of the way: a surge is not kept waiting longer than
/// it must, and the target is still not passed.
const IDLE: f64 = 1.2;
/// The most that one window takes off the limit. 0.7: what is worse is a doubt, and a dip goes deeper.
const STEP_DOWN_MAX: f64 = 0.7;
/// A limit counts as used from this share on: permits that lie idle at a shard are no sign that there are enough.
const USED: f64 = 0.9;
/// A share of overloads from which a window cuts the limit whatever its latency. 10 %: some requests time out whatever the
/// limit is, and a limit that falls for them until it is the least would harm all others.
const OVERLOADED: f64 = 0.1;
/// What such a window leaves of the limit. 0.9, as with AIMD.
const OVERLOADED_CUT: f64 = 0.9;
/// A share of overloads from which the app answers nobody, and what a window of so many leaves of the limit. Half: what an app
/// that stands still is sent lies in its line when it goes on, and is worked on for callers who have gone.
const STOPPED: f64 = 0.9;
const STOPPED_CUT: f64 = 0.5;
const STOPPED_SAMPLES: u64 = 10;

/// A ratio beyond which the limit or the least latency is wrong by much. 2.5: where times differ widely, a wait that is as
/// long as half of their mean makes a typical one 2.3 times as long.
const DOUBTFUL: f64 = 2.5;
/// A ratio that says so only if it stays while the limit falls for it: just above the target.
const SUSPECT: f64 = 1.55;
/// What a doubtful window counts, and a suspect one; one that is neither takes two back. At the sum the limit dips: after
/// two doubtful windows, or ten suspect ones, since noise alone makes a few in a row.
const DOUBT_COUNTS: u32 = 5;
const DOUBT_MAX: u32 = 10;
/// No dip for a doubt so soon after another. 1 s: the windows after a dip are to show what it has brought.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);
/// How long the least latency is believed while the limit is used all the time. 10 s, as BBR's: a dip takes 1 to 2 % of it.
const LEARNED_FOR: Duration = Duration::from_secs(10);

/// How deep a dip goes, as a share of what would bring the least latency by the present ratio: 0.9, just below the knee.
const DIP_MARGIN: f64 = 0.9;
/// The least and the most that a step of a dip leaves of the limit. Where nothing seems congested a fifth off is enough
/// to see whether latency follows; more than three fifths at once would idle an app that has only become slower.
const DIP_DEEPEST: f64 = 0.4;
const DIP_SHALLOWEST: f64 = 0.8;
/// A step of a dip before anything is known.
const DIP_FIRST: f64 = 0.5;
/// The least latency is confirmed by one that is at most so many times as high.
const CONFIRMED: f64 = 1.2;
/// A step of a dip has at least so many samples, and is over when the latency is known to within this factor.
const DIP_SAMPLES: u64 = 10;
const DIP_UNCERTAINTY: f64 = 1.25;
/// How long one step of a dip may take: this, or 4 latencies if they are longer. 400 ms: what is queued meanwhile is
/// hardly more than what a queue waits for.
const DIP_STEP_MAX: Duration = Duration::from_millis(400);
/// How long a step waits at most for others to end: this, or a quarter more than they take. 200 ms: less than a request
/// waits by default, so that none is shed since those before it turn out to be streams.
const DIP_UNSETTLED_MAX: Duration = Duration::from_millis(200);
/// For how long a dip may keep somebody waiting: this, or by half longer than they waited before it. 60 ms: a small part of
/// what a request waits by default. In a dip a stall of the machine would have requests shed for nothing.
const DIP_WAIT_MAX: Duration = Duration::from_millis(60);
/// The longest latency that windows and dips allow for. 1 min: what takes longer to begin is a stream.
const LATENCY_MAX: Duration = Duration::from_mins(1);
/// What a dip leaves of the limit where it found nothing congested, as a multiple of what was under way. 2: room for a
/// spike to show itself, and not so much that it floods the app before a window has ended.
const ROOM: f64 = 2.0;
/// What a window leaves of a limit that it did not use, down to so many times what was under way, since what nobody has used
/// is no proof that the app can do it (as RFC 7661 says of a window). 0.98: from 128 to 32 in 4 to 8 s of steady traffic.
/// 4: with less, chance alone uses it up now and then.
const UNUSED: f64 = 0.98;
const UNUSED_ROOM: f64 = 4.0;
/// No less is left for that. 32: a burst of small requests, which floods no app.
const UNUSED_LEAST: f64 = 32.0;
/// The share by which a window moves what is learned from many. 0.1: ten windows.
const LEARN: f64 = 0.1;
/// A window that is below this share of the least latency by four standard errors proves it too high, whatever ran at
/// once. 0.85: less would hardly change the limit.
const DISPROVED: f64 = 0.85;

#[derive(Debug, Clone, Copy)]
struct Least {
    us: f64,
    /// With how many under way it was measured.
    in_flight: f64,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Dip {
    /// What is returned to, as far as it turns out to be right.
    limit_before: f64,
    /// How many were under way before, and their latency.
    in_flight_before: f64,
    us_before: f64,
    /// How long the one waited that waited longest.
    waited_before: Duration,
    /// How many were under way in the step before, and their latency.
    in_flight_last: f64,
    us_last: f64,
    /// Whether the step before was of this dip: what was seen before it may be of a rise, and compares with nothing.
    is_deeper: bool,
    /// Whether there is a least latency that may be confirmed.
    may_confirm: bool,
    /// When this step began.
    since: Instant,
    /// Since when no more are under way than the step allows.
    settled: Option<Instant>,
    seen: Sample,
}

#[derive(Debug)]
pub struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    least: Option<Least>,
    /// Whether a window has shown it to be too high since.
    is_disproved: bool,
    /// In the last window, in microseconds.
    us: f64,
    /// In the last window, by whoever waited longest.
    waited: Duration,
    /// Of the logarithm of the latency within a window, as it has mostly been.
    variance: f64,
    doubt: u32,
    doubt_from: Option<Instant>,
    window: Window,
    dip: Option<Dip>,
    /// When the sample before came.
    last: Option<Instant>,
}

impl Gradient {
    pub fn new(settings: &traffic::Concurrency, limit: f64) -> Self {
        Self {
            min: f64::from(settings.min),
            max: f64::from(settings.max),
            limit,
            least: None,
            is_disproved: false,
            us: 0.0,
            waited: Duration::ZERO,
            variance: 0.0,
            doubt: 0,
            doubt_from: None,
            window: Window::default(),
            dip: None,
            last: None,
        }
    }

    pub fn bounds(&mut self, settings: &traffic::Concurrency) {
        (self.min, self.max) = (f64::from(settings.min), f64::from(settings.max));
        self.set(self.limit);
    }

    pub fn limit(&self) -> f64 {
        self.limit
    }

    pub fn latency(&self) -> Duration {
        micros(self.us)
    }

    pub fn least(&self) -> Option<Duration> {
        self.least.map(|least| micros(least.us))
    }

    pub fn phase(&self) -> Phase {
        if self.dip.is_some() { Phase::Dip } else { Phase::Steady }
    }

    pub fn observe(&mut self, sample: &Sample, now: Instant) {
        let from = self.last.replace(now).unwrap_or(now);
        if self.dip.is_some() {
            self.dip_goes_on(sample, from, now);
        } else if let Some(seen) = self.window.add(sample, micros(self.us), now) {
            self.window_ended(&seen, now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.dip.as_ref().map(Self::step_ends)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(dip) = self.dip
            && Self::step_ends(&dip) <= now
        {
            self.dip_measured(dip, now);
        }
    }

    fn window_ended(&mut self, seen: &Sample, now: Instant) {
        let is_failing = seen.is_overloaded(OVERLOADED);
        if is_failing {
            let stopped = seen.overloads >= STOPPED_SAMPLES && seen.is_overloaded(STOPPED);
            self.set(self.limit * if stopped { STOPPED_CUT } else { OVERLOADED_CUT });
        }
        self.waited = seen.waited;
        let Some(us) = seen.typical_us() else { return };
        let is_first = self.us == 0.0;
        self.us = us;
        self.variance += (seen.variance() - self.variance) * LEARN;
        let in_flight = f64::from(seen.in_flight_max);
        let used = seen.queued || in_flight >= self.limit * USED;
        let Some(least) = self.learn(us, in_flight, seen, now) else {
            // The first window has the start in it.
            if is_first {
                return;
            }
            self.least = Some(Least { us, in_flight, at: now });
            self.is_disproved = true;
            // What nobody presses against needs no proof yet.
            if used {
                self.dip_begins(us, in_flight, 1.0, now);
            }
            return;
        };
        let ratio = us / least.us.max(FAST_US);
        let sure = seen.uncertainty(self.variance);
        let surely = ratio / sure;
        self.doubt = if surely > DOUBTFUL {
            self.doubt + DOUBT_COUNTS
        } else if surely > SUSPECT {
            self.doubt + 1
        } else {
            self.doubt.saturating_sub(2)
        };
        let is_doubted = self.doubt >= DOUBT_MAX || (self.is_disproved && used);
        let may_dip = self.doubt_from.is_none_or(|from| now >= from);
        let is_old = used && now.saturating_duration_since(least.at) >= LEARNED_FOR;
        // What fails fast is no measure of anything.
        if ((is_doubted && may_dip) || is_old) && !is_failing {
            return self.dip_begins(us, in_flight, ratio, now);
        }
        // What was not used has not made the latency what it is.
        if used {
            let gain = if ratio * sure < IDLE { 1.0 } else { GAIN };
            let most = if is_failing { 1.0 } else { TARGET };
            self.set(self.limit * (TARGET / ratio).powf(gain).clamp(STEP_DOWN_MAX, most));
        } else {
            let enough = (in_flight * UNUSED_ROOM).max(UNUSED_LEAST);
            self.set(self.limit.min((self.limit * UNUSED).max(enough)));
        }
    }

    /// What a window says of the least latency: nothing of its growth, unless no more were under way than when it was
    /// measured, since then it is the app that has changed.
    fn learn(&mut self, us: f64, in_flight: f64, seen: &Sample, now: Instant) -> Option<Least> {
        let sure = seen.uncertainty(self.variance);
        let least = self.least.as_mut()?;
        // What fails fast is no proof of speed.
        if !seen.is_overloaded(OVERLOADED) {
            if in_flight <= least.in_flight {
                least.us += (us - least.us) * LEARN;
                least.at = now;
            } else if us * sure * sure < least.us * DISPROVED {
                least.us = us;
                self.is_disproved = true;
            }
        }
        Some(*least)
    }

    fn dip_begins(&mut self, us: f64, in_flight: f64, ratio: f64, now: Instant) {
        self.doubt = 0;
        let before = in_flight.min(self.limit);
        if before <= self.min {
            // Nothing lower can be tried: this is the least there is.
            self.least = Some(Least { us, in_flight: before, at: now });
            self.is_disproved = false;
            return;
        }
        let dip = Dip {
            limit_before: self.limit,
            in_flight_before: before,
            us_before: us,
            waited_before: self.waited,
            in_flight_last: before,
            us_last: us,
            is_deeper: false,
            may_confirm: !self.is_disproved,
            since: now,
            settled: None,
            seen: Sample::default(),
        };
        let shallowest = if dip.may_confirm { DIP_SHALLOWEST } else { DIP_FIRST };
        let part = (DIP_MARGIN / ratio).clamp(DIP_DEEPEST, shallowest);
        self.dip = Some(dip);
        self.set((before * part).floor());
    }

    /// Samples count once as few are under way as the dip allows, and those that began before have ended.
    fn dip_goes_on(&mut self, sample: &Sample, from: Instant, now: Instant) {
        let Some(mut dip) = self.dip else { return };
        if sample.waited > DIP_WAIT_MAX.max(dip.waited_before.mul_f64(1.5)) {
            return self.dip_ends(dip.limit_before, now);
        }
        if f64::from(sample.in_flight_max) <= self.limit {
            let settled = *dip.settled.get_or_insert(from);
            let ended = settled + micros(sample.typical_us().unwrap_or(dip.us_last));
            // A quarter of the sample may be of before.
            let counts = ended <= from + now.saturating_duration_since(from) / 4;
            if counts && !sample.is_overloaded(OVERLOADED) {
                dip.seen.merge(sample);
            }
        }
        self.dip = Some(dip);
        if dip.seen.count >= DIP_SAMPLES && dip.seen.uncertainty(self.variance) <= DIP_UNCERTAINTY {
            self.dip_measured(dip, now);
        } else {
            self.handle_timeout(now);
        }
    }

    /// Half of a step is for the others to end: where they hold their permits for longer, nothing is to be learned, and
    /// nobody else is to be kept waiting.
    fn step_ends(dip: &Dip) -> Instant {
        let whole = DIP_STEP_MAX.max(micros(dip.us_last) * 4);
        dip.since
            + if dip.settled.is_some() {
                whole
            } else {
                (whole / 2).min(DIP_UNSETTLED_MAX.max(micros(dip.us_last * 1.25)))
            }
    }

    fn dip_measured(&mut self, mut dip: Dip, now: Instant) {
        let measured = dip.seen.typical_us().filter(|_| dip.seen.count >= DIP_SAMPLES);
        let (Some(us), Some(least)) = (measured, self.least) else {
            // Too few samples: once more soon, if there is need. Never settled: it would be the same again.
            self.is_disproved &= dip.settled.is_some();
            return self.dip_ends(dip.limit_before, now);
        };
        let tried = self.limit;
        // Whether latency fell rather with the number under way than not: the middle of both, in the logarithm.
        let helped = us / dip.us_last < (tried / dip.in_flight_last).sqrt();
        let sure = dip.seen.uncertainty(self.variance);
        let confirmed =
            dip.may_confirm && (least.us * DISPROVED / sure..=least.us * CONFIRMED * sure).contains(&us);
        if (helped || !dip.is_deeper) && !confirmed && tried > self.min {
            (dip.in_flight_last, dip.us_last, dip.is_deeper) = (tried, us, true);
            (dip.since, dip.settled, dip.seen) = (now, None, Sample::default());
            self.dip = Some(dip);
            let part = (DIP_MARGIN * least.us / us).clamp(DIP_DEEPEST, DIP_FIRST);
            return self.set((tried * part).floor());
        }
        self.us = us;
        self.least = Some(Least { us, in_flight: tried, at: now });
        self.is_disproved = false;
        let excess = dip.us_before / us.max(FAST_US);
        let times = if excess > CONFIRMED { TARGET / excess } else { ROOM };
        let limit = dip.in_flight_before * times;
        self.dip_ends(limit.clamp(tried, dip.limit_before.max(tried)), now);
    }

    fn dip_ends(&mut self, limit: f64, now: Instant) {
        if let Some(least) = &mut self.least {
            least.at = now;
        }
        self.dip = None;
        self.doubt_from = Some(now + DOUBT_AGAIN);
        self.window.restart(now);
        self.set(limit);
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min, self.max);
    }
}

fn micros(us: f64) -> Duration {
    Duration::try_from_secs_f64(us / 1e6).map_or(LATENCY_MAX, |latency| latency.min(LATENCY_MAX))
}
