//! The shop itself: nothing in here knows that there are several nodes.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tower_sessions::{Session, session};

/// What a client sees of its session.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) user: Option<String>,
    /// One entry for each piece.
    pub(crate) cart: Vec<Piece>,
}

/// A piece in the cart. Each has a number of its own: two of the same article are two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) article: String,
    pub(crate) number: u64,
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("shop.html"))))
        .route("/account", get(account))
        .route("/login/{user}", post(login))
        .route("/logout", post(logout))
        .route("/cart/{article}", post(add))
        .route("/viewed/{article}", post(viewed))
        .route("/cart/{article}/{number}", put(add_this))
}

async fn account(session: Session) -> Result<Json<Account>, Unavailable> {
    Ok(Json(Account { user: session.get("user").await?, cart: session.get("cart").await?.unwrap_or_default() }))
}

async fn login(session: Session, Path(user): Path<String>) -> Result<(), Unavailable> {
    // Whoever knew the id before the login does not know the session after it.
    session.cycle_id().await?;
    Ok(session.insert("user", user).await?)
}

async fn logout(session: Session) -> Result<(), Unavailable> {
    Ok(session.flush().await?)
}

/// What the client looked at last.
async fn viewed(session: Session, Path(article): Path<String>) -> Result<(), Unavailable> {
    Ok(session.insert("viewed", article).await?)
}

/// Each time it is another piece: not to be sent twice.
async fn add(session: Session, Path(article): Path<String>) -> Result<Json<Piece>, Unavailable> {
    add_this(session, Path((article, fastrand::u64(..1 << 48)))).await
}

/// The client has chosen the number: as often as this comes, there is one such piece. When it comes again nothing is written, and
/// so nothing waited for: it is as durable then as the first time made it.
async fn add_this(session: Session, Path(piece): Path<(String, u64)>) -> Result<Json<Piece>, Unavailable> {
    let mut cart: Vec<Piece> = session.get("cart").await?.unwrap_or_default();
    let piece = Piece { article: piece.0, number: piece.1 };
    if !cart.contains(&piece) {
        cart.push(piece.clone());
        session.insert("cart", cart).await?;
    }
    Ok(Json(piece))
}

/// The store failed.
struct Unavailable(session::Error);

impl From<session::Error> for Unavailable {
    fn from(error: session::Error) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Unavailable {
    fn into_response(self) -> axum::response::Response {
        // For the log: it names members.
        eprintln!("{}", self.0);
        (StatusCode::SERVICE_UNAVAILABLE, "try again").into_response()
    }
}
