use clap::Parser;

use super::{Args, ByteCount};

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn given(flag: &str) -> Result<Command, clap::Error> {
    Command::try_parse_from(["test", "--service=t/web", "--control-plane=127.0.0.1:1", flag])
}

#[test]
fn a_grace_that_no_clock_can_count_is_refused_at_the_start_and_not_found_at_the_drain() {
    assert!(given("--drain-grace-s=0").is_ok());
    assert!(given("--drain-grace-s=86400").is_ok());
    for long in ["86401", "18446744073709551615"] {
        let refused = given(&format!("--drain-grace-s={long}")).expect_err(long).to_string();
        assert!(refused.contains("0..=86400"), "{refused}");
    }
}

#[test]
fn a_number_of_bytes_may_have_a_unit_and_is_never_none() {
    for (given, bytes) in
        [("1", 1), ("268435456", 268_435_456), ("64KiB", 65_536), ("256MiB", 268_435_456), ("2GiB", 2 << 30)]
    {
        assert_eq!(given.parse(), Ok(ByteCount(bytes)), "{given}");
    }
    for given in ["", "0", "0MiB", "-1", "1.5GiB", "256 MiB", "256MB", "18446744073709551615KiB"] {
        let told = given.parse::<ByteCount>().expect_err(given);
        assert!(told.contains("256MiB"), "{told}");
    }
}
