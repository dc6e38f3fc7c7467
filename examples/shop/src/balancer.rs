//! nginx before the nodes: a process of its own, with sticky routing by what `StickyLayer` hangs on the session's cookie.
//!
//! It is the nginx that distributions have, which has no `sticky` directive: a `map` of the cookie's end does it.
//!
//! # What goes to another node, and what does not
//! Where a client's node does not answer, or says 503 because it has not the sessions yet, nginx asks another
//! (`proxy_next_upstream`). That is safe for whatever may be done twice. nginx takes HTTP at its word there: a GET or a PUT it sends
//! again, a POST only if it has not sent it, which is so where nobody listens at the node's port. So a POST that was under way when its
//! node died is answered with 502, and one that came to a node which is not ready with 503: the client is to decide.
//! `non_idempotent` would send them again, too. It is left out, for `POST /cart/{article}` gives each piece a number of its own: the
//! node may have added a piece, and told the others of it, and died before it answered; sent again the client has two pieces,
//! and nobody notices. `PUT /cart/{article}/{number}` has its number from the client. The cart is a set to which two equal
//! pieces are one, so it may come as often as it likes, to whatever node. That is what a client should use that wants no gaps.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tribes::prelude::BoxError;

const LOG: &str = "error.log";
/// Time for nginx to listen.
const BEGIN: Duration = Duration::from_secs(10);

/// A port of this machine that nobody else is given, though it is free to listen at: for what stops and comes back there.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) address: SocketAddr,
    /// Bound, not listening: whoever asks for any port gets another one, whoever asks for this one gets it. Elsewhere than on Linux
    /// it would be in the way, and the port is only likely to be free still.
    _held: Option<TcpSocket>,
}

impl Reserved {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: socket.local_addr()?, _held: Some(socket).filter(|_| cfg!(target_os = "linux")) })
    }
}

/// A running nginx. Dropping it stops it, and removes its folder.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) url: String,
    // Dropped in this order: it writes to its folder.
    _process: Child,
    folder: TempDir,
    _port: Reserved,
}

impl Balancer {
    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, BoxError> {
        Ok(self.url.trim_start_matches("http://").parse()?)
    }

    /// Starts `program` before nodes of these names and addresses, which need not be there yet; it accepts connections.
    pub(crate) async fn start(program: &Path, nodes: &[(String, SocketAddr)]) -> Result<Self, BoxError> {
        let folder = tempfile::Builder::new().prefix("shop-nginx-").tempdir()?;
        let port = Reserved::new()?;
        let settings = folder.path().join("nginx.conf");
        let log = folder.path().join(LOG);
        std::fs::write(&settings, main_settings(&port.address.to_string(), nodes))?;
        // In no group of its own: what ends this program from a terminal ends nginx, too.
        let spawned = Command::new(find(program))
            .arg("-e")
            .arg(&log)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&settings)
            // By this an nginx gets the sockets of another.
            .env_remove("NGINX")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // What it says there it says in its log, too.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no {} here", program.display()),
            _ => format!("{} does not start: {error}", program.display()),
        })?;
        let began = Instant::now();
        while TcpStream::connect(port.address).await.is_err() {
            let ended = process.try_wait()?;
            if ended.is_some() || began.elapsed() > BEGIN {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let what = ended.map_or_else(|| "does not listen".to_owned(), |status| format!("ended, {status}"));
                return Err(format!("{} {what}: {}", program.display(), said.trim()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { url: format!("http://{}", port.address), _process: process, folder, _port: port })
    }

    /// The last lines of its log, when something went wrong.
    pub(crate) fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
    }
}

/// Where Debian has it users do not look for programs.
fn find(program: &Path) -> PathBuf {
    let usual = Path::new("/usr/sbin").join(program);
    if program == Path::new("nginx") && usual.exists() { usual } else { program.to_owned() }
}

/// The whole, for an nginx that anybody may start: all that it writes is in its own folder.
fn main_settings(listen: &str, nodes: &[(String, SocketAddr)]) -> String {
    let site = site(listen, nodes);
    format!(
        "# One process in the foreground: to end it is to end all of it, and it needs no user to become.\n\
         daemon off;\n\
         master_process off;\n\
         pid nginx.pid;\n\
         events {{\n    worker_connections 4096;\n}}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path body;\n\
         proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         \n\
         {site}\
         }}\n"
    )
}

/// What belongs into `http { … }`. `guides/sessions.md` shows it.
fn site(listen: &str, nodes: &[(String, SocketAddr)]) -> String {
    let mut text = String::from(
        "# A client's node is what its cookie ends with, behind the last dot. Who has none goes to any.\n\
         map $cookie_id $nodes {\n    default any;\n",
    );
    let mut upstreams = String::from(
        "\n# A client's own node, and the others for when it is away: then the client stays with the one that answers.\n\
         # max_fails=0: with its default a few failures, as while nodes start, have nginx say 502 though a node is there.\n\
         # keepalive: no fewer than requests are under way at once. For each beyond it nginx opens a connection and closes it again,\n\
         # which costs more than the request does, and uses up the ports.\n",
    );
    upstream(&mut upstreams, "any", None, nodes);
    for (name, _) in nodes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    \"~\\.{name}$\" node_{name};");
        upstream(&mut upstreams, &format!("node_{name}"), Some(name), nodes);
    }
    text.push_str("}\n");
    text.push_str(&upstreams);
    let _ = write!(
        text,
        "\nserver {{\n    \
             listen {listen};\n    \
             location / {{\n        \
                 proxy_pass http://$nodes;\n        \
                 proxy_http_version 1.1;\n        \
                 proxy_set_header Connection \"\";\n        \
                 proxy_set_header Host $host;\n        \
                 proxy_connect_timeout 1s;\n        \
                 # Dead, silent, or not ready yet: another is asked. No non_idempotent: a POST that was sent may have been done.\n        \
                 proxy_next_upstream error timeout http_503;\n    \
             }}\n\
         }}\n"
    );
    text
}

/// The nodes under a name: one that comes first, or all alike.
fn upstream(text: &mut String, name: &str, first: Option<&str>, nodes: &[(String, SocketAddr)]) {
    let _ = writeln!(text, "upstream {name} {{");
    for (node, address) in nodes {
        let backup = if first.is_none_or(|first| first == node) { "" } else { " backup" };
        let _ = writeln!(text, "    server {address} max_fails=0{backup};");
    }
    text.push_str("    keepalive 256;\n}\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_guide_shows_what_is_used() {
        let nodes = [("A", "10.0.0.7:8080"), ("B", "10.0.0.8:8080")];
        let nodes = nodes.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        let shown = format!("```nginx\n{}```", site("80", &nodes));
        let guide = include_str!("../../../guides/sessions.md");
        assert!(guide.contains(&shown), "guides/sessions.md is to contain\n{shown}");
    }
}
