//! Flags for the linker that depend on how the sidecar is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |name| std::env::var(name).unwrap_or_default();
    let is_static = of_target("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    // Half a MiB of relocations, each of which is read at the start, become some KiB. Where it is linked dynamically, a C library
    // from before 2022 would refuse the program.
    if is_static && of_target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
