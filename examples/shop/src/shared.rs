//! Redis, which nodes share.

use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};
use tribes::prelude::BoxError;
use tribes::sessions::SharedStore;

/// Connections to it.
const CONNECTIONS: usize = 6;

/// The sessions in the Redis at `url`.
pub(crate) async fn redis(url: &str) -> Result<SharedStore, BoxError> {
    let pool = Pool::new(Config::from_url(url)?, None, None, None, CONNECTIONS)?;
    pool.init().await?;
    Ok(SharedStore::new_0_14(RedisStore::new(pool)))
}
