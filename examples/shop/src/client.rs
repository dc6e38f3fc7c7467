//! A client that keeps its cookie.

use reqwest::Method;
use reqwest::header::{COOKIE, SET_COOKIE};
use tribes::prelude::BoxError;

use crate::application::{Account, Piece};
use crate::nodes::Node;
use crate::witness::ANSWERED_BY;

/// A browser, as far as sessions go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Where it goes if not to the nodes themselves.
    balancer: Option<String>,
    /// The session's cookie as it came: `id~version.node`.
    pub(crate) cookie: Option<String>,
    /// The node that answered last, by its name.
    pub(crate) answered_by: String,
}

/// Who gave an answer; see [`ANSWERED_BY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) name: String,
    pub(crate) process: u32,
    /// How its sessions came: `none` if they had not.
    pub(crate) state: String,
}

impl By {
    fn of(response: &reqwest::Response) -> Option<Self> {
        let mut words = response.headers().get(ANSWERED_BY)?.to_str().ok()?.split(' ');
        let (name, process, state) = (words.next()?, words.next()?, words.next()?);
        Some(Self { name: name.to_owned(), process: process.parse().ok()?, state: state.to_owned() })
    }
}

impl Client {
    pub(crate) fn new(http: reqwest::Client, balancer: Option<&str>) -> Self {
        Self { http, balancer: balancer.map(str::to_owned), ..Self::default() }
    }

    /// The session's id.
    pub(crate) fn id(&self) -> String {
        let id = self.cookie.as_deref().and_then(|cookie| cookie.split(['~', '.']).next());
        id.unwrap_or_default().to_owned()
    }

    /// The node to which the client belongs.
    pub(crate) fn route(&self) -> String {
        let route = self.cookie.as_deref().and_then(|cookie| cookie.split('.').nth(1));
        route.unwrap_or_default().to_owned()
    }

    /// Has a balancer take it to this node, by its cookie.
    pub(crate) fn go_to(&mut self, node: &Node) {
        if self.balancer.is_some() {
            // A client that has no session yet names one that there is not.
            let session = self.cookie.as_deref().and_then(|cookie| cookie.split('.').next()).unwrap_or("none");
            self.cookie = Some(format!("{session}.{}", node.name));
        }
    }

    /// From `node`, or from whichever the balancer takes it to.
    pub(crate) async fn account(&mut self, node: &impl AsRef<str>) -> Result<Account, BoxError> {
        Ok(self.send(Method::GET, node, "/account").await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn add(&mut self, node: &impl AsRef<str>, article: &str) -> Result<Piece, BoxError> {
        Ok(self.post(node, &format!("/cart/{article}")).await?.json().await?)
    }

    pub(crate) async fn post(&mut self, node: &impl AsRef<str>, path: &str) -> Result<reqwest::Response, BoxError> {
        Ok(self.send(Method::POST, node, path).await?.error_for_status()?)
    }

    async fn send(
        &mut self,
        method: Method,
        node: &impl AsRef<str>,
        path: &str,
    ) -> Result<reqwest::Response, BoxError> {
        let to = self.balancer.as_deref().unwrap_or_else(|| node.as_ref()).to_owned();
        let (response, by) = self.ask(method, &to, path).await?;
        self.answered_by = by.map(|by| by.name).unwrap_or_default();
        Ok(response)
    }

    /// An answer from `url`, and who gave it if a node's application did.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        url: &str,
        path: &str,
    ) -> Result<(reqwest::Response, Option<By>), reqwest::Error> {
        let mut request = self.http.request(method, format!("{url}{path}"));
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, format!("id={cookie}"));
        }
        let response = request.send().await?;
        for cookie in response.headers().get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok()) {
            if let Some(value) = cookie.split(';').next().and_then(|pair| pair.strip_prefix("id=")) {
                self.cookie = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
        }
        let by = By::of(&response);
        Ok((response, by))
    }
}
