//! The committed code in `src/gen` is what `fleet.proto` generates. Run with
//! `PATCHFLEET_REGENERATE=1` after a change of the contract.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

/// The one file that the contract generates.
const GENERATED: &str = "patchfleet.fleet.v1.rs";

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    generate(root, fresh.path());
    let new = std::fs::read_to_string(fresh.path().join(GENERATED)).unwrap();
    if std::env::var_os("PATCHFLEET_REGENERATE").is_some() {
        std::fs::write(committed.join(GENERATED), &new).unwrap();
    }
    let old = std::fs::read_to_string(committed.join(GENERATED)).unwrap_or_default();
    assert!(
        old == new,
        "src/gen/{GENERATED} is stale: run this test with PATCHFLEET_REGENERATE=1"
    );
}

fn generate(root: &Path, out: &Path) {
    let descriptors = protox::compile(["fleet/v1/fleet.proto"], [root]).unwrap();
    tonic_prost_build::configure()
        // `connect` is the name of our call; callers make the channel themselves.
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .unwrap();
}
