//! The only ways out of a sandbox's network: proxies on unix sockets, one per sandbox and phase.
//!
//! - [`ConnectProxy`] lets the setup phase reach the hosts of an allow-list, and nothing else: the
//!   name is compared before it is resolved, only public addresses are dialled, and the TLS
//!   handshake that passes has to name the same host. Nothing is decrypted; there is no CA.
//! - [`ModelProxy`] forwards a model's interface to one fixed upstream and adds the key there.
//! - [`Bridge`] runs inside the sandbox: a loopback port whose connections go to such a socket. It
//!   decides nothing; the socket is the boundary.
//!
//! Absent: SOCKS, UDP, name resolution for the sandbox, and any way to another loopback service.

mod address;
mod allow;
mod bridge;
mod client_hello;
mod connect;
mod ecosystems;
mod environment;
mod forward;
mod headers;
mod mask;
mod model;
mod name;
mod network;
mod refusals;
mod socket;
mod splice;
mod target;

pub use address::{AddressRules, NetworkError, is_public};
pub use allow::{AllowList, Entry, EntryError};
pub use bridge::Bridge;
pub use client_hello::{ClientHelloReader, HelloError};
pub use connect::{ConnectProxy, Limits, Policy};
pub use ecosystems::Ecosystem;
pub use environment::{URL_PLACEHOLDER, model_variables, proxy_variables};
pub use ipnet::IpNet;
pub use model::{
    Credential, Model, ModelLimits, ModelProxy, ModelRecord, ModelUpstream, ModelUpstreamError,
    ModelUse, is_this_host,
};
pub use name::{HostName, NameError};
pub use network::{HostNetwork, Network};
pub use refusals::{Phase, Reason, Refusal, Refusals};
pub(super) use socket::listen;
pub use target::{Target, TargetError};

#[cfg(test)]
mod tests;
