//! Redis: a server as a process, and the store that speaks to one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Builder, Config, ReconnectPolicy};
use tribes::prelude::BoxError;
use tribes::sessions::SharedStore;

use crate::balancer::Reserved;
use crate::within;

/// Connections to it.
const CONNECTIONS: usize = 6;
/// What it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// What it may take to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// The sessions in the Redis at `url`. It need not be there yet, nor always: what is asked of it meanwhile fails.
pub(crate) fn sessions(url: &str) -> Result<SharedStore, BoxError> {
    let mut config = Config::from_url(url)?;
    config.fail_fast = false;
    let pool = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = ANSWER)
        .with_connection_config(|connection| connection.max_command_attempts = 1)
        .set_policy(ReconnectPolicy::new_exponential(0, 100, 2000, 2))
        .build_pool(CONNECTIONS)?;
    // It goes on in the background.
    pool.connect_pool();
    Ok(SharedStore::new_0_14(RedisStore::new(pool)))
}

/// A Redis that runs, and keeps nothing on disk. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) url: String,
    _process: Child,
    _port: Reserved,
    _folder: TempDir,
}

impl Redis {
    pub(crate) async fn start(program: &Path) -> Result<Self, BoxError> {
        let (port, folder) = (Reserved::new()?, tempfile::tempdir()?);
        let address: SocketAddr = port.address;
        let process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = program.display();
                format!("{program} does not start: {error}. Install it (Debian: apt-get install redis-server), or say where it is: --redis.")
            })?;
        let listens = within(BEGIN, async || TcpStream::connect(address).await.ok()).await;
        listens.0.ok_or("the Redis does not listen")?;
        Ok(Self { url: format!("redis://{address}"), _process: process, _port: port, _folder: folder })
    }
}
