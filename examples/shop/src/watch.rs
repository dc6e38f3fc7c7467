//! A page in which one sees where the sessions are, and that they move when a node is killed.
//!
//! Nodes are processes, as in the tour. Shoppers are clients that come again and again: to the node that their cookie names, or if
//! that is down to another, as a balancer would send them. The page is told whole pictures, always the newest: whoever reads
//! slowly misses those between.

mod board;
mod shopper;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use futures_util::{Stream, stream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tribes::prelude::BoxError;

use self::board::{Board, Refused};

/// Everything from here, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How many nodes there are.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How many other nodes hold each session; all, if it is not said.
    #[arg(long)]
    copies: Option<usize>,
    /// The port of the page; any that is free, if it is 0. Only this machine sees the page: its buttons kill processes.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Opens the page in the browser.
    #[arg(long)]
    open: bool,
}

impl Watch {
    /// As it is shown after the tour.
    pub(crate) const fn new(nodes: u8, copies: Option<usize>, open: bool) -> Self {
        Self { nodes, copies, port: 0, open }
    }

    /// Until this process is asked to end.
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let board = Arc::new(Board::new(usize::from(self.nodes), self.copies)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}/");
        println!("See the sessions move at {url} (Ctrl-C ends it)");
        if self.open {
            let url = url.clone();
            // A thread of its own: some openers return when the browser ends, and nobody waits for them.
            std::thread::spawn(move || {
                if let Err(error) = opener::open_browser(&url) {
                    eprintln!("no browser could be opened, go to {url}: {error}");
                }
            });
        }
        let all = Arc::clone(&board);
        board.spawn(async move { all.start_all().await });
        // Streams never end by themselves: nobody waits for them.
        let served = tokio::select! {
            served = async { axum::serve(listener, routes(Arc::clone(&board), address)).await } => served,
            () = crate::serve::stop() => Ok(()),
        };
        board.end().await;
        Ok(served?)
    }
}

fn routes(board: Arc<Board>, address: SocketAddr) -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/style.css", get(async || file("text/css; charset=utf-8", include_str!("page/style.css"))))
        .route("/script.js", get(async || file("text/javascript; charset=utf-8", include_str!("page/script.js"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("page/icon.svg"))))
        .route("/events", get(events))
        .route("/shoppers", post(shopper))
        .route("/nodes/{name}/kill", post(kill))
        .route("/nodes/{name}/start", post(start))
        .with_state(board)
        .layer(from_fn_with_state(address.port(), guard))
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, content)
}

/// Lets only the page itself in. Any site that the user has open can send requests to this machine, and it can give itself a name
/// that leads here: so the name must be ours, and who changes something must be the page, which browsers say in `Origin`.
async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let header = |headers: &HeaderMap, name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = header(request.headers(), HOST);
    let origin = header(request.headers(), ORIGIN);
    let is_here = host.as_ref().is_some_and(|host| names.contains(host));
    let is_ours = match &origin {
        Some(origin) => host.is_some_and(|host| *origin == format!("http://{host}")),
        None => request.method() == Method::GET || request.method() == Method::HEAD,
    };
    if is_here && is_ours { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

async fn events(State(board): State<Arc<Board>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut pictures = board.pictures();
    pictures.mark_changed();
    let told = stream::unfold(pictures, async |mut pictures| {
        pictures.changed().await.ok()?;
        let event = Event::default().json_data(&*pictures.borrow_and_update()).ok()?;
        Some((Ok(event), pictures))
    });
    Sse::new(told).keep_alive(KeepAlive::default())
}

async fn shopper(State(board): State<Arc<Board>>) -> Result<StatusCode, Refused> {
    whole(Arc::clone(&board), async move { shopper::come(&board).await }).await
}

async fn kill(State(board): State<Arc<Board>>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    whole(Arc::clone(&board), async move { board.kill(&name).await }).await
}

async fn start(State(board): State<Arc<Board>>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    whole(Arc::clone(&board), async move { Board::start(&board, &name).await }).await
}

/// Does it to its end, also when whoever asked for it goes away meanwhile.
async fn whole(
    board: Arc<Board>,
    action: impl Future<Output = Result<(), Refused>> + Send + 'static,
) -> Result<StatusCode, Refused> {
    let (done, is_done) = oneshot::channel();
    board.spawn(async move {
        // Whoever asked may be away.
        let _ = done.send(action.await);
    });
    match is_done.await {
        Ok(done) => done.map(|()| StatusCode::NO_CONTENT),
        Err(_) => Err(Refused::Failed("all of this ends".into())),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::IsSo | Self::Full => StatusCode::CONFLICT,
            Self::NoNode | Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}
