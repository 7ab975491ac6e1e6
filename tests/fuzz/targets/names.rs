//! Names that peers, files and the control plane write: each has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider_fuzz::ids::{ServiceId, SpiffeId};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(service) = text.parse::<ServiceId>() {
        assert_eq!(service.to_string(), text);
    }
});
