//! The supervisor, and the stages of sandboxes, for programs that are none themselves: this crate's
//! tests, whose `main` is the test harness. `patchfleet` does not need it.

use std::process::ExitCode;

fn main() -> ExitCode {
    patchfleet_agent::enter().unwrap_or(ExitCode::FAILURE)
}
