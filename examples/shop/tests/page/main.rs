//! The page in which sessions move, in a real browser; and what nodes tell it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod chromium;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::Value;

use self::chromium::{Browser, LIMIT};

/// A process of ours that says where it listens. Ends in order with this, so that it can end those that it started.
struct Shop {
    process: Child,
    url: String,
}

impl Shop {
    fn start(arguments: &[&str]) -> Self {
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_shop")).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        Self { process, url: url.trim_end_matches('/').to_owned() }
    }

    fn stop(&mut self) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.stop();
        }
        drop(self.process.wait());
    }
}

/// Saves a picture of the page for people, and looks that there is something on it.
fn picture(browser: &mut Browser, name: &str) {
    let bytes = browser.screenshot();
    std::fs::write(format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR")), &bytes).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let colours: HashSet<&[u8]> = pixels.chunks_exact(info.color_type.samples()).collect();
    assert!(colours.len() > 50, "{name}: {} colours only", colours.len());
}

#[test]
fn sessions_move_when_their_node_is_killed() {
    let shop = Shop::start(&["watch"]);
    let mut browser = Browser::start(&format!("{}/", shop.url));
    browser.until("three are ready", "document.querySelectorAll('.node[data-status=ready]').length === 3");
    for shoppers in 1..=5 {
        browser.click("#shopper");
        browser.until("they come", &format!("document.querySelectorAll('.chip[data-session]').length === {shoppers}"));
    }
    // Everything is on all nodes, and something is in each cart.
    let copied = "[...document.querySelectorAll('.chip')].every(chip => chip.dataset.cart > 0 && chip.querySelector('.held').textContent === 'on A, B, C')";
    browser.until("all have copies", copied);
    picture(&mut browser, "page-before");

    let of_a = "[...document.querySelectorAll('.node[data-node=A] .chip')].map(chip => [chip.dataset.session, Number(chip.dataset.cart)])";
    let Value::Array(mut sessions) = browser.value(of_a) else { panic!("no list") };
    assert!(!sessions.is_empty(), "shoppers go to all nodes");
    browser.click(".node[data-node=A] .power");
    browser.until("it is down", "document.querySelector('.node[data-node=A]').dataset.status === 'down'");
    picture(&mut browser, "page-killed");
    for session in &mut sessions {
        let (id, cart) = (session[0].as_str().unwrap(), session[1].as_u64().unwrap());
        let moved = format!(
            "(() => {{ const chip = document.querySelector(`.node[data-status=ready] .chip[data-session='{id}']`); \
             return chip && Number(chip.dataset.cart); }})()"
        );
        let now = browser.until("a session goes to another node", &moved).as_u64().unwrap();
        assert!(now >= cart, "{id} had {cart} pieces and has {now}");
    }
    browser.until("it is said", "[...document.querySelectorAll('#lines [data-kind=moved]')].some(line => line.textContent.includes('moved from A'))");
    assert_eq!(browser.value("document.querySelectorAll('.chip').length"), 5, "no session is lost, and none twice");

    browser.press(".node[data-node=A] .power");
    browser.until("it is ready again", "document.querySelector('.node[data-node=A]').dataset.status === 'ready'");
    browser.until("it has the sessions", copied);
    // What shoppers find missing would be said there.
    let lines = browser.value("document.querySelector('#lines').textContent");
    assert!(!["misses", "log in again"].iter().any(|bad| lines.as_str().unwrap().contains(bad)), "{lines}");

    let dark = serde_json::json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", dark);
    picture(&mut browser, "page-dark");
    let narrow = serde_json::json!({"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": false});
    browser.call("Emulation.setDeviceMetricsOverride", narrow);
    picture(&mut browser, "page-narrow");
    assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth"), true, "nothing sticks out");
    assert_eq!(browser.value("document.querySelector('#trouble').textContent"), "");
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}

#[tokio::test]
async fn only_the_page_may_change_something() {
    let shop = Shop::start(&["watch", "--nodes", "2"]);
    let http = reqwest::Client::new();
    let status = async |method: reqwest::Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = http.request(method, format!("{}{path}", shop.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status()
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    assert_eq!(status(get.clone(), "/", &[]).await, StatusCode::OK);
    // A name of somebody else's that leads here.
    for path in ["/", "/events", "/script.js"] {
        assert_eq!(status(get.clone(), path, &[("host", "example.org")]).await, StatusCode::FORBIDDEN);
    }
    let kill = "/nodes/A/kill";
    for headers in [
        [].as_slice(),
        &[("origin", "null")],
        &[("origin", "http://example.org")],
        &[("host", "example.org"), ("origin", "http://example.org")],
        // Another program on this machine.
        &[("origin", "http://127.0.0.1:1")],
    ] {
        assert_eq!(status(post.clone(), kill, headers).await, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(status(get, kill, &[]).await, StatusCode::METHOD_NOT_ALLOWED);
    let ours = [("origin", shop.url.as_str())];
    assert_eq!(status(post.clone(), "/nodes/Z/kill", &ours).await, StatusCode::NOT_FOUND);
    // It starts with this: whether it is killed on its way or after it.
    let killed = tokio::time::timeout(LIMIT, async {
        while status(post.clone(), kill, &ours).await != StatusCode::NO_CONTENT {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    killed.await.unwrap();
    assert_eq!(status(post, kill, &ours).await, StatusCode::CONFLICT, "it is killed already");
}

#[tokio::test]
async fn a_node_tells_no_whole_ids_and_ends_while_somebody_watches() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut shop = Shop::start(&["serve", "--admin", "--name", "A", "--group", &format!("228.0.0.4:{port}")]);
    let http = reqwest::Client::new();
    let url = &shop.url;
    let mut events = http.get(format!("{url}/admin/events")).send().await.unwrap();
    let (mut told, mut id) = (String::new(), None);
    let watched = tokio::time::timeout(LIMIT, async {
        while !told.contains(r#""cart":1"#) {
            told.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
            if id.is_none() && told.contains(r#""is_ready":true"#) {
                let answer = http.post(format!("{url}/cart/nails")).send().await.unwrap();
                let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
                id = Some(cookie["id=".len()..].split(['~', '.']).next().unwrap().to_owned());
            }
        }
    });
    watched.await.unwrap();
    let id = id.unwrap();
    assert!(told.starts_with("event: node\n"), "{told}");
    assert!(told.contains(r#""what":"created""#), "{told}");
    assert!(told.contains(&format!("\"{}…\"", &id[..6])), "{id}: {told}");
    assert!(!told.contains(&id[..7]), "{id}: {told}");

    shop.stop();
    let ended = tokio::time::timeout(LIMIT, async { while events.chunk().await.unwrap().is_some() {} });
    ended.await.unwrap();
    assert!(tokio::task::spawn_blocking(move || shop.process.wait()).await.unwrap().unwrap().success());
}
