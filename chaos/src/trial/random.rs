//! Random numbers that a seed makes, the same on every machine and with every version: `SplitMix64`.
//!
//! Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014). Libraries promise no such thing: their
//! generators change between versions, and a report's seed would no longer replay.

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for a part of the work, so that parts do not depend on each other's draws.
    pub fn of(seed: u64, part: u64) -> Self {
        let mut random = Self(seed ^ part.wrapping_mul(0xA24B_AED4_963E_E407));
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what an `f64` holds; half of them at a time are exact in a conversion.
        let (high, low) = (self.next() >> 37, self.next() >> 38);
        let high = f64::from(u32::try_from(high).expect("27 bits"));
        let low = f64::from(u32::try_from(low).expect("26 bits"));
        (high * f64::from(1_u32 << 26) + low) / (f64::from(1_u32 << 27) * f64::from(1_u32 << 26))
    }
}
