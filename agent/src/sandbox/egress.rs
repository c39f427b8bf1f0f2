//! The only ways out of a sandbox's network: proxies on unix sockets, one per sandbox and phase.
//!
//! - [`ConnectProxy`] lets the setup phase reach the hosts of an allow-list, and nothing else: the
//!   name is compared before it is resolved, only public addresses are dialled, and the TLS
//!   handshake that passes has to name the same host. Nothing is decrypted; there is no CA.
//! - The crate's `gateway` leads to a model, on a socket of the same kind.
//! - [`Bridge`] runs inside the sandbox: a loopback port whose connections go to such a socket. It
//!   decides nothing; the socket is the boundary.
//!
//! Absent: SOCKS, UDP, name resolution for the sandbox, and any way to another loopback service.

mod address;
mod bridge;
mod client_hello;
mod connect;
mod environment;
mod forward;
mod headers;
mod network;
mod refusals;
mod socket;
mod splice;
mod target;

pub use address::{AddressRules, NetworkError, is_public, is_this_host};
pub use bridge::Bridge;
pub use client_hello::{ClientHelloReader, HelloError};
pub(crate) use connect::{Body, REASON_HEADER};
pub use connect::{ConnectProxy, Limits, Policy};
pub use environment::{URL_PLACEHOLDER, model_variables, proxy_variables};
pub(crate) use headers::{normalized, retain, strip_hop_by_hop, strip_host};
pub use ipnet::IpNet;
pub use network::{HostNetwork, Network};
pub use patchfleet_repository::hosts::{
    AllowList, Ecosystem, Entry, EntryError, HostName, NameError,
};
pub use refusals::{Phase, Reason, Refusal, Refusals};
pub(super) use socket::listen;
pub(crate) use socket::{Served, Serving};
pub(crate) use splice::Allowance;
pub use target::{Target, TargetError};

#[cfg(test)]
mod tests;
