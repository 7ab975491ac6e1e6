use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::oneshot;

use super::work::{Message, work};
use super::{Capacity, Count, Counters, Order};

#[test]
fn orders_survive_their_paths_and_nonsense_is_refused() {
    for order in [Order::TakeAway(0.9), Order::Fail(0.1), Order::Hang, Order::Resume, Order::Clear] {
        assert_eq!(Order::parse(&order.path()), Some(order));
    }
    for nonsense in ["", "/", "hang", "/take-away", "/take-away/2", "/fail/x", "/fail/NaN", "/hang/1"] {
        assert_eq!(Order::parse(nonsense), None, "{nonsense}");
    }
}

#[test]
fn a_capacity_is_workers_over_service_time() {
    let rate = Capacity::Rate { workers: 3, service: Duration::from_millis(10) };
    assert!((rate.per_second() - 300.0).abs() < 1e-9);
    assert!((Capacity::Cpu { service: Duration::from_millis(5) }.per_second() - 200.0).abs() < 1e-9);
}

/// Does these messages to the end, and says what was counted.
fn worked(capacity: Capacity, messages: Vec<Message>) -> Count {
    let counters = Arc::new(Counters::default());
    let (send, receive) = sync_channel(messages.len());
    for message in messages {
        send.try_send(message).expect("the channel has room for all");
    }
    let counted = Arc::clone(&counters);
    let worker = std::thread::spawn(move || work(capacity, &receive, &counted));
    let begun = std::time::Instant::now();
    // Level, not edge: until nothing more comes of it, within a bound.
    while counters.read().served < 3 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    drop(send);
    worker.join().expect("the worker ends with its senders");
    counters.read()
}

#[test]
fn work_for_a_caller_that_has_gone_is_done_and_counted() {
    for capacity in [
        Capacity::Rate { workers: 2, service: Duration::from_millis(1) },
        Capacity::Cpu { service: Duration::from_micros(50) },
    ] {
        let (stays, mut answer) = oneshot::channel();
        let gone = || Message::Job(oneshot::channel().0);
        let count = worked(capacity, vec![gone(), Message::Job(stays), gone()]);
        assert_eq!((count.served, count.wasted), (3, 2), "{capacity:?}");
        assert_eq!(answer.try_recv(), Ok(()));
    }
}
