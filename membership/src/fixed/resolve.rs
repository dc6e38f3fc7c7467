//! From names to addresses.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Resolves the names of static peers. Replace it to find peers in a directory of your own, or in tests.
#[async_trait]
pub trait Resolve: Debug + Send + Sync + 'static {
    /// The addresses of `addr`, which is `HOST:PORT`. Called for each attempt to reach a peer, off the membership's own
    /// task; the first four addresses are tried.
    ///
    /// # Errors
    /// If the name cannot be resolved now; the next attempt asks again.
    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        tokio::net::lookup_host(addr).await.map(Iterator::collect)
    }
}
