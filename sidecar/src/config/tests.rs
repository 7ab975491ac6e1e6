use clap::Parser;

use super::Args;

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
