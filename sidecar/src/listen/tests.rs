use super::*;

#[test]
fn connections_go_to_the_shard_that_answered_fewer_requests() {
    let start = Instant::now();
    let mut picker = Picker::new(2, start);
    // Shard 0 carries one busy connection, shard 1 a hundred idle ones.
    let loads = |shard: usize| if shard == 0 { (50_000, 1) } else { (10, 100) };
    let later = start + SAMPLE;
    assert_eq!(picker.pick(loads, later), 1);
}

#[test]
fn equally_busy_shards_take_turns_even_before_anything_is_counted() {
    let start = Instant::now();
    let mut picker = Picker::new(2, start);
    let picked: Vec<usize> = (0..4).map(|_| picker.pick(|_| (0, 0), start)).collect();
    assert_eq!(picked, [0, 1, 0, 1]);
}

#[tokio::test]
async fn what_is_accepted_is_tuned_as_its_listener_is() {
    let listener = bind("127.0.0.1:0".parse().unwrap(), "--inbound").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let accepted = socket2::SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().unwrap());
    assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 64 << 10);
}

#[test]
fn a_burst_is_forgotten() {
    let start = Instant::now();
    let mut picker = Picker::new(2, start);
    let mut now = start;
    let mut first = Vec::new();
    for _ in 0..40 {
        now += SAMPLE;
        first.push(picker.pick(|shard| (if shard == 0 { 100_000 } else { 0 }, 0), now));
    }
    assert_eq!(first[0], 1);
    assert_eq!(first[39], 0, "after four seconds of silence the burst no longer counts");
}
