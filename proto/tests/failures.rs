//! Failures on the wire, between versions that know different kinds of them.

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::{Failure, Outcome};
use patchfleet_proto::v1;

/// A coordinator of before knows faults of hosts, and takes the attempt for one that does not count.
#[test]
fn a_model_that_is_unusable_is_a_fault_of_the_host_for_who_does_not_know_it() {
    let failure = |kind| {
        Outcome::Failed(Failure {
            kind,
            message: String::new(),
            retryable: false,
            discard_checkpoints: false,
        })
    };
    let wire = v1::finished::Outcome::from(failure(FailureKind::ModelUnusable));
    let v1::finished::Outcome::Failed(failed) = &wire else {
        panic!("{wire:?}");
    };
    assert!(failed.host_fault, "{failed:?}");
    let newer = v1::finished::Outcome::Failed(v1::Failed {
        kind: "moon_set".to_owned(),
        ..failed.clone()
    });
    let read = Outcome::try_from(newer);
    assert_eq!(read, Ok(failure(FailureKind::HostFault)));
    let read = Outcome::try_from(wire);
    assert_eq!(read, Ok(failure(FailureKind::ModelUnusable)));
}
