//! Clients that come again and again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tribes::prelude::BoxError;

use super::board::{Board, Refused};
use crate::application::Piece;
use crate::client::Client;

const NAMES: [&str; 16] = [
    "anna", "ben", "cleo", "david", "edda", "finn", "grace", "hugo", "ida", "jan", "kira", "leo", "mia", "noah",
    "olga", "paul",
];
const ARTICLES: [&str; 4] = ["nails", "screws", "hammer", "saw"];
/// Most pieces in a cart.
const MOST: usize = 9;
/// Between two requests of a shopper, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 600..1400;
/// A node that was killed meanwhile does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

struct Shopper {
    name: &'static str,
    client: Client,
    /// What it put into its cart, as far as it was told so.
    cart: Vec<Piece>,
}

/// Somebody logs in at some node, puts something into the cart, and shops on.
pub(super) async fn come(board: &Arc<Board>) -> Result<(), Refused> {
    let number = board.shoppers.fetch_add(1, Ordering::Relaxed);
    let name = NAMES.get(number).copied();
    let begun = match name {
        Some(name) => begin(board, name).await,
        None => Err(Refused::Full),
    };
    match begun {
        Ok(shopper) => {
            board.spawn(shopper.shop(Arc::downgrade(board)));
            Ok(())
        }
        Err(refused) => {
            board.shoppers.fetch_sub(1, Ordering::Relaxed);
            Err(refused)
        }
    }
}

async fn begin(board: &Board, name: &'static str) -> Result<Shopper, Refused> {
    let mut shopper = Shopper { name, client: Client::default(), cart: Vec::new() };
    let url = board.node_for("").ok_or(Refused::NoNode)?;
    let begun = tokio::time::timeout(PATIENCE, async {
        shopper.client.post(&url, &format!("/login/{name}")).await?;
        shopper.put(&url).await
    });
    begun.await.map_err(|late| Refused::Failed(late.into()))??;
    Ok(shopper)
}

impl Shopper {
    async fn put(&mut self, url: &String) -> Result<(), BoxError> {
        let article = fastrand::choice(ARTICLES).unwrap_or_default();
        self.cart.push(self.client.add(url, article).await?);
        Ok(())
    }

    /// Until there is no board any more.
    async fn shop(mut self, board: Weak<Board>) {
        loop {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
            let Some(board) = board.upgrade() else { return };
            let Some(url) = board.node_for(&self.client.route()) else { continue };
            // What fails is tried again, elsewhere when the node is known to be down.
            if let Ok(Ok(Some(lost))) = tokio::time::timeout(PATIENCE, self.visit(&url)).await {
                board.note("bad", lost);
            }
        }
    }

    /// Looks whether all is there, and puts something into the cart; what was lost.
    async fn visit(&mut self, url: &String) -> Result<Option<String>, BoxError> {
        let account = self.client.account(url).await?;
        if account.user.as_deref() != Some(self.name) {
            // All nodes that had the session were killed.
            self.cart.clear();
            self.client = Client::default();
            self.client.post(url, &format!("/login/{}", self.name)).await?;
            self.put(url).await?;
            return Ok(Some(format!("{} had to log in again", self.name)));
        }
        let is_there = |piece: &Piece| account.cart.contains(piece);
        let before = self.cart.len();
        self.cart.retain(is_there);
        if self.cart.len() < before {
            return Ok(Some(format!("{} misses {} pieces", self.name, before - self.cart.len())));
        }
        if account.cart.len() < MOST && fastrand::bool() {
            self.put(url).await?;
        }
        Ok(None)
    }
}
