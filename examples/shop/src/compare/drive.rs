//! Clients that ask as fast as they are answered. Each has a connection of its own, and as little between as can be: what they
//! take the server does not have.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{COOKIE, HOST, HeaderValue, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tribes::prelude::BoxError;

/// Pieces in each cart.
const PIECES: usize = 3;
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The clients of a node.
pub(super) struct Clients(Vec<Client>);

/// What they saw in a slice of time.
#[derive(Debug, Default)]
pub(super) struct Slice {
    took: Duration,
    /// In microseconds, sorted.
    times: Vec<u32>,
    pub(super) failed: usize,
    /// Of the node that was asked.
    pub(super) processor_time: Duration,
}

impl Slice {
    pub(super) fn answered(&self) -> usize {
        self.times.len()
    }

    /// Requests answered in a second.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// What the node took of processors for each request, in microseconds.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn processor_micros(&self) -> f64 {
        self.processor_time.as_secs_f64() * 1e6 / self.times.len() as f64
    }

    /// In microseconds.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    pub(super) fn percentile(&self, part: f64) -> f64 {
        let place = (self.times.len() as f64 * part) as usize;
        self.times.get(place).or_else(|| self.times.last()).copied().map_or(f64::NAN, f64::from)
    }
}

impl Clients {
    /// So many, each logged in and with something in the cart.
    pub(super) async fn connect(address: SocketAddr, count: u32) -> Result<Self, BoxError> {
        let mut clients = Vec::new();
        for number in 0..count {
            let mut client = Client::connect(address).await?;
            client.ask(Method::POST, &format!("/login/user{number}")).await?;
            for _ in 0..PIECES {
                client.ask(Method::POST, "/cart/shoe").await?;
            }
            clients.push(client);
        }
        Ok(Self(clients))
    }

    /// They ask for as long as `slice`; of a hundred requests so many `writes`.
    pub(super) async fn go_on(&mut self, slice: Duration, writes: u32) -> Result<Slice, BoxError> {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for client in self.0.drain(..) {
            running.spawn(client.go_on(began + slice, writes));
        }
        let mut whole = Slice::default();
        while let Some(done) = running.join_next().await {
            let (client, slice) = done?;
            self.0.push(client);
            whole.times.extend(slice.times);
            whole.failed += slice.failed;
        }
        whole.took = began.elapsed();
        whole.times.sort_unstable();
        Ok(whole)
    }
}

struct Client {
    address: SocketAddr,
    host: HeaderValue,
    sender: SendRequest<Body>,
    cookie: Option<HeaderValue>,
    asked: u32,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self, BoxError> {
        let host = HeaderValue::try_from(address.to_string())?;
        Ok(Self { address, host, sender: sender(address).await?, cookie: None, asked: 0 })
    }

    async fn go_on(mut self, until: Instant, writes: u32) -> (Self, Slice) {
        let mut slice = Slice::default();
        loop {
            let began = Instant::now();
            if began >= until {
                return (self, slice);
            }
            self.asked = self.asked.wrapping_add(1);
            // Spread evenly.
            let is_write = (self.asked.wrapping_mul(writes)) % 100 < writes;
            let asked = if is_write {
                let article = self.asked;
                self.ask(Method::POST, &format!("/viewed/{article}")).await
            } else {
                self.ask(Method::GET, "/account").await
            };
            match asked {
                Ok(()) => slice.times.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)),
                Err(_) => {
                    slice.failed += 1;
                    match sender(self.address).await {
                        Ok(sender) => self.sender = sender,
                        Err(_) => return (self, slice),
                    }
                }
            }
        }
    }

    /// Asks, and keeps the cookie that it gets.
    async fn ask(&mut self, method: Method, path: &str) -> Result<(), BoxError> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().extend(self.cookie.clone().map(|cookie| (COOKIE, cookie)));
        // It may not have noticed yet that the last answer is over; or that was the last on this connection, as nginx has it after
        // a thousand.
        if self.sender.ready().await.is_err() {
            self.sender = sender(self.address).await?;
        }
        let answer = async {
            let response = self.sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let _whole = body.collect().await?;
            Ok::<_, hyper::Error>(parts)
        };
        let parts = tokio::time::timeout(ANSWER, answer).await??;
        if parts.status != StatusCode::OK {
            return Err(format!("{path}: {}", parts.status).into());
        }
        if let Some(cookie) = parts.headers.get(SET_COOKIE) {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            self.cookie = Some(HeaderValue::try_from(pair)?);
        }
        Ok(())
    }
}

async fn sender(address: SocketAddr) -> Result<SendRequest<Body>, BoxError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    #[allow(clippy::disallowed_methods, reason = "a program, not the library")]
    tokio::spawn(connection);
    Ok(sender)
}
