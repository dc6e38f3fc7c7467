//! Whether multicast works on this machine at all.

use std::io;
use std::time::Duration;

use tribes_core::Env;

use super::McastConfig;
use super::socket::{listen, speak, target};

/// Sends a datagram to the group and waits until it is heard here, on the interface and with the options of `config`, but on a
/// port of its own, so that no member hears it. For self-tests: what does not come back on the machine itself will not reach
/// others either.
///
/// # Errors
/// What the system says, or [`io::ErrorKind::TimedOut`] if it says nothing and the datagram does not come within `limit`.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn loops_back(config: &McastConfig, limit: Duration) -> io::Result<()> {
    let config = config.clone().with_loopback(true);
    let listener = listen(&config.clone().with_port(0))?;
    let port = listener.local_addr()?.port();
    let to = target(&config.clone().with_port(port));
    let token: [u8; 16] = Env::real().unique()?;
    let heard = async {
        let mut buffer = [0; 32];
        loop {
            let length = listener.recv(&mut buffer).await?;
            if buffer.get(..length) == Some(&token[..]) {
                return Ok(());
            }
        }
    };
    speak(&config)?.send_to(&token, to).await?;
    tokio::time::timeout(limit, heard).await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_comes_back_on_loopback() {
        loops_back(&McastConfig::default(), Duration::from_secs(10)).await.unwrap();
    }
}
