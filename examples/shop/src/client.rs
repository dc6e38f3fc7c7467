//! A client that keeps its cookie.

use reqwest::header::{COOKIE, SET_COOKIE};
use tribes::prelude::BoxError;

use crate::application::{Account, Piece};

/// A browser, as far as sessions go. A node is told by its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// The session's cookie as it came: `id~version.node`.
    pub(crate) cookie: Option<String>,
}

impl Client {
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

    pub(crate) async fn account(&mut self, node: &impl AsRef<str>) -> Result<Account, BoxError> {
        Ok(self.send(self.http.get(format!("{}/account", node.as_ref()))).await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn add(&mut self, node: &impl AsRef<str>, article: &str) -> Result<Piece, BoxError> {
        Ok(self.post(node, &format!("/cart/{article}")).await?.json().await?)
    }

    pub(crate) async fn post(&mut self, node: &impl AsRef<str>, path: &str) -> Result<reqwest::Response, BoxError> {
        Ok(self.send(self.http.post(format!("{}{path}", node.as_ref()))).await?.error_for_status()?)
    }

    async fn send(&mut self, mut request: reqwest::RequestBuilder) -> Result<reqwest::Response, BoxError> {
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, format!("id={cookie}"));
        }
        let response = request.send().await?;
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str()?;
            if let Some(value) = cookie.split(';').next().and_then(|pair| pair.strip_prefix("id=")) {
                self.cookie = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
        }
        Ok(response)
    }
}
