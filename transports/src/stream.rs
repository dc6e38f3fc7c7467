//! The seam between connections and what carries their bytes.
//!
//! Receiver and sender are written over a stream of bytes, so that TLS slips in between TCP and frames without either
//! noticing: the sender asks a [`Connector`] for a stream to an address, the receiver hands each accepted TCP connection
//! to an [`Acceptor`].

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::socket::SocketOptions;

/// A connection, whatever carries it. `shutdown` ends the sending direction and tells the peer so.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Makes connections; the sender's half of the seam.
#[async_trait]
pub trait Connector: Debug + Send + Sync + 'static {
    /// Connects to `addr`, handshakes included. Waits as long as the operating system does: the caller sets the limit.
    ///
    /// # Errors
    /// What the operating system or the handshake says.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    async fn connect(&self, addr: SocketAddr) -> io::Result<Box<dyn ByteStream>>;
}

/// Makes a stream of an accepted TCP connection; the receiver's half of the seam. Called on the connection's own task, so
/// that a slow handshake holds up nobody.
#[async_trait]
pub trait Acceptor: Debug + Send + Sync + 'static {
    /// The stream, handshake done. The caller sets the limit.
    ///
    /// # Errors
    /// What the handshake says; the connection is closed then.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    async fn accept(&self, stream: TcpStream) -> io::Result<Box<dyn ByteStream>>;

    /// Whether what goes over these streams is encrypted and its sender authenticated.
    fn is_protected(&self) -> bool {
        false
    }
}

/// Plain TCP, connecting.
#[derive(Clone, Debug, Default)]
pub struct TcpConnector {
    options: SocketOptions,
}

impl TcpConnector {
    /// Connects with these socket options.
    #[must_use]
    pub const fn new(options: SocketOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, addr: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
        let stream = self.options.connect(addr).await?;
        Ok(Box::new(stream))
    }
}

/// Plain TCP, accepting.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpAcceptor;

#[async_trait]
impl Acceptor for TcpAcceptor {
    async fn accept(&self, stream: TcpStream) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(stream))
    }
}
