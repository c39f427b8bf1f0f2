//! A loopback port inside the sandbox whose connections go to a unix socket.
//!
//! It holds nothing and decides nothing: a program of the sandbox may as well use the socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long after an error nothing is accepted, as when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);

/// A port that is bound already, so that whoever is started afterwards finds it.
#[derive(Debug)]
pub struct Bridge {
    listener: TcpListener,
    socket: PathBuf,
}

impl Bridge {
    /// Binds a port of the loopback, any free one for 0.
    ///
    /// # Errors
    /// When the port is not to be had.
    pub fn bind(port: u16, socket: &Path) -> io::Result<Self> {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?, socket)
    }

    /// Forwards the connections of a port that is bound already.
    ///
    /// # Errors
    /// When the listener can't be used.
    pub fn on(listener: TcpListener, socket: &Path) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            socket: socket.to_owned(),
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Forwards connections until it is dropped.
    ///
    /// # Errors
    /// When the listener can't be used by the runtime.
    async fn run(self) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let (tracker, room) = (
            TaskTracker::new(),
            Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        );
        // Never closed, so that a permit is always had.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let socket = self.socket.clone();
                    tracker.spawn(async move {
                        let _ = forward(stream, &socket).await;
                        drop(permit);
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(())
    }

    /// Forwards connections on this thread, for as long as the process lives.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn serve(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.run())
    }
}

async fn forward(mut inside: TcpStream, socket: &Path) -> io::Result<()> {
    let mut outside = UnixStream::connect(socket).await?;
    inside.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut inside, &mut outside).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn connections_of_the_port_reach_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let bridge = Bridge::bind(0, &socket).unwrap();
        let address = bridge.address().unwrap();
        std::thread::spawn(move || bridge.serve());
        for _ in 0..3 {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let mut text = String::new();
            server.read_to_string(&mut text).unwrap();
            server.write_all(b"world").unwrap();
            drop(server);
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "helloworld");
        }
    }

    #[test]
    fn a_port_whose_socket_is_gone_hangs_up() {
        let folder = tempfile::tempdir().unwrap();
        let bridge = Bridge::bind(0, &folder.path().join("none")).unwrap();
        let mut client = std::net::TcpStream::connect(bridge.address().unwrap()).unwrap();
        std::thread::spawn(move || bridge.serve());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
