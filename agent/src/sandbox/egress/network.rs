//! The host's network, as the proxies use it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::HostName;

/// Resolving a name, and dialling an address that was judged. A trait, because tests answer for
/// names that would lead inwards.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// All addresses of a host.
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>>;

    /// A connection to exactly this address.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// The network of the machine that the agent runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostNetwork;

#[async_trait]
impl Network for HostNetwork {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        // With its final dot the name is looked up as it is, not below the host's own domains.
        let found = tokio::net::lookup_host((format!("{host}."), 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
