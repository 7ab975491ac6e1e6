//! What is kept, within which bounds, and what counts as the sidecar's own.

use clap::Parser as _;

use super::*;
use crate::stats::StatsRegistry;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: crate::config::Args,
}

fn config(flags: &[&str]) -> Config {
    let fixed = ["test", "--service=test/a", "--control-plane=127.0.0.1:1", "--shards=2"];
    Command::parse_from(fixed.iter().chain(flags)).args.check().unwrap()
}

fn egress(config: &Config) -> Egress {
    Egress::new(&ShardRecorder::new(&StatsRegistry::new()), config)
}

#[actix_rt::test]
async fn an_address_is_its_own_answer_and_a_name_is_looked_up_and_kept() {
    let egress = egress(&config(&[]));
    for (host, address) in [
        ("192.0.2.7", "192.0.2.7:81"),
        ("[2001:db8::1]", "[2001:db8::1]:81"),
        ("[::ffff:10.0.0.1]", "10.0.0.1:81"),
    ] {
        assert_eq!(egress.resolve(host, 81).await, Ok(address.parse().unwrap()));
    }
    assert_eq!(egress.names.borrow().len(), 0);
    assert!(egress.resolve("localhost", 81).await.unwrap().ip().is_loopback());
    assert!(egress.known("localhost:81").is_some());
    // Longer than a label may be, so no server is asked.
    let name = format!("{}.test", "a".repeat(64));
    assert_eq!(egress.resolve(&name, 81).await, Err(Unresolved::NoAddress));
    assert!(egress.known(&format!("{name}:81")).is_none());
}

#[actix_rt::test]
async fn names_and_hosts_stay_within_their_bound_and_the_oldest_host_goes_first() {
    let egress = egress(&config(&[]));
    let address = |n: usize| {
        SocketAddr::from(([192, 0, 2, u8::try_from(n % 256).unwrap()], u16::try_from(n).unwrap() + 1))
    };
    for n in 0..KEPT_MAX + 10 {
        egress.keep(&format!("h{n}.test"), address(n));
        egress.host(address(n));
    }
    assert_eq!((egress.names.borrow().len(), egress.hosts.borrow().len()), (KEPT_MAX, KEPT_MAX));
    assert!(!egress.hosts.borrow().contains_key(&address(0)));
    assert!(egress.hosts.borrow().contains_key(&address(KEPT_MAX + 9)));
    egress.sweep(Instant::now() + HOST_IDLE_MAX);
    assert_eq!(egress.hosts.borrow().len(), 0);
}

#[actix_rt::test]
async fn no_more_requests_are_under_way_than_may_be() {
    let egress = egress(&config(&["--concurrency-limit=4"]));
    let held: Vec<_> = (0..2).map(|_| egress.enter().unwrap_or_else(|limit| panic!("{limit}"))).collect();
    assert_eq!(egress.enter().err(), Some(2), "a shard's part of 4");
    assert_eq!(egress.stats.in_flight.get(), 2);
    drop(held);
    assert!(egress.enter().is_ok());
    assert_eq!(egress.stats.in_flight.get(), 0);
}

#[test]
fn a_listener_of_the_sidecar_is_its_own_under_every_address_that_leads_to_it() {
    let config = config(&["--outbound=127.0.0.3:14001", "--edge-host=127.0.0.4", "--edge-port=443=14443"]);
    let own = |text: &str| is_own(text.parse().unwrap(), &config, [443_u16, 444].into_iter());
    for address in [
        "127.0.0.1:14006",
        "127.9.9.9:14006",
        "[::1]:14006",
        "0.0.0.0:14006",
        "127.0.0.3:14001",
        "0.0.0.0:14001",
        "127.0.0.1:14000",
        "127.0.0.1:14090",
        "127.0.0.4:14443",
        "127.0.0.4:444",
    ] {
        assert!(own(address), "{address}");
    }
    for address in
        ["127.0.0.1:8080", "192.0.2.7:14006", "127.0.0.1:14001", "127.0.0.4:443", "127.0.0.1:14443"]
    {
        assert!(!own(address), "{address}");
    }
}
