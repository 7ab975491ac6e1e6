//! How flags are written.

use super::ByteCount;

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
