//! Bounded waits on a level: what is waited for stays true once it is, so looking again and again misses nothing.

use std::time::Duration;

use tokio::time::Instant;

/// What a wait of these cases may take at most, on a loaded machine. Not a speed that is asserted.
pub const BOUND: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PERIOD: Duration = Duration::from_millis(10);

/// Looks until there is a value; panics with `what` and the last look's own word when [`BOUND`] has passed.
#[track_caller]
pub fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> impl Future<Output = T> {
    within(BOUND, what, look)
}

/// [`until`] with a bound of its own.
#[track_caller]
pub fn within<T>(
    bound: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + bound;
        loop {
            match look().await {
                Ok(value) => return value,
                Err(last) if Instant::now() >= end => {
                    panic!("{caller}: not within {bound:?}: {what}; at last: {last}")
                }
                Err(_) => tokio::time::sleep(PERIOD).await,
            }
        }
    }
}

/// A future that must end within [`BOUND`].
#[track_caller]
pub fn bounded<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(BOUND, future).await {
            Ok(value) => value,
            Err(elapsed) => panic!("{caller}: {what}: not within {BOUND:?} ({elapsed})"),
        }
    }
}
