//! The wire between coordinator and agents (`fleet.v1`) and its conversion to the domain.
//!
//! The generated code is committed, so a build needs no `protoc`; a test keeps it current.
//! Absent: any behaviour. What a message leads to is the coordinator's and the agent's.

/// The generated messages and the client and server of `Fleet`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod v1 {
    include!("gen/patchfleet.fleet.v1.rs");
}

pub mod convert;

/// The version of the session protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

/// The trailer with which a refused agent is told after how many milliseconds to come back, named
/// as in gRPC's own retries (gRFC A6, "server pushback").
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The trailer with which an agent is refused because another process has its id: for how many
/// milliseconds that process may be silent before its place is free.
pub const FREE_WITHIN: &str = "patchfleet-free-within-ms";

/// How many bytes a message takes on the wire.
pub fn encoded_len(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// Largest message either side accepts, in bytes: a checkpoint may hold a whole change.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
