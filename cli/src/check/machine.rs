//! A self-test of the machine: what the channel will need, tried with the channel's own parts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tribes::config::Config;
use tribes::error::StartError;
use tribes::membership::{McastConfig, loops_back};
use tribes::{Channel, Env, Member, Services};

use super::finding::Finding;

/// This version was not written before 2026-11-01.
const WRITTEN_MS: i64 = 1_793_491_200_000;
/// The largest datagram of a heartbeat that needs no second packet on Ethernet.
const ETHERNET: usize = 1500;

/// Starts the receiver of `channel`, and stops it again.
pub(super) async fn check(config: &Config, channel: &Channel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let local = match channel.start_services(Services::RECEIVER).await {
        Ok(()) => {
            let local = channel.local();
            findings.extend(address(config, &local));
            channel.stop().await;
            Some(local)
        }
        // A layer refuses what only shows when the channel runs.
        Err(StartError::Part { part, source }) if part != "receiver" => {
            let seen = format!("{part} does not start: {}", with_causes(&*source));
            findings.push(Finding::fault("start", seen, format!("correct the settings of {part}, or what they name")));
            None
        }
        Err(error) => {
            let seen = format!("the receiver does not start: {}", with_causes(&error));
            let fix = "choose another [receiver] bind or port, raise auto_bind, or see who has it: ss -ltnp";
            findings.push(Finding::fault("port", seen, fix));
            None
        }
    };
    let interface = local.as_ref().and_then(|local| local.addr()).map(|addr| addr.ip());
    if config.get("membership", "type").as_deref() == Some("multicast") {
        findings.push(multicast(config).await);
    }
    if let Some(peers) = config.get("membership", "peers").filter(|peers| !peers.is_empty()) {
        for peer in peers.split('+') {
            findings.push(resolves(peer.trim()).await);
        }
    }
    findings.extend(interface.and_then(mtu));
    findings.push(clock(config));
    findings.extend(descriptors(config));
    findings
}

/// An error and what it came from.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Which address others will be told, and whether the port is the one that was asked for.
fn address(config: &Config, local: &Member) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(addr) = local.addr() else {
        let fix = "set [receiver] bind to an address of this machine";
        return vec![Finding::fault("address", "the receiver announces no address", fix)];
    };
    let seen = format!("others will be told {addr}");
    findings.push(match addr.ip() {
        IpAddr::V4(ip) if ip.is_loopback() && ip != Ipv4Addr::LOCALHOST => Finding::warning(
            "address",
            seen,
            "an address of 127/8 other than 127.0.0.1 comes from /etc/hosts: bind a real one",
        ),
        ip if ip.is_loopback() => Finding::fine("address", format!("{seen}: members on this machine only")),
        _ => Finding::fine("address", seen),
    });
    let wanted = config.get("receiver", "port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
    findings.push(match wanted {
        Some(wanted) if wanted != addr.port() => {
            let seen = format!("{wanted} is taken, {} was free", addr.port());
            Finding::warning(
                "port",
                seen,
                "fine for several members on one machine; otherwise see who has it: ss -ltnp",
            )
        }
        _ => Finding::fine("port", format!("{} is free", addr.port())),
    });
    let protected =
        config.interceptors().contains(&"encrypt") || config.get("receiver", "protected").as_deref() == Some("true");
    if !addr.ip().is_loopback() && !protected {
        let fix = "add the interceptor encrypt, or set [receiver] protected = true if the network itself is safe";
        findings.push(Finding::warning("security", "messages go over the network in clear, and from anybody", fix));
    }
    findings
}

/// Whether a datagram to the group comes back.
async fn multicast(config: &Config) -> Finding {
    let set = |key| config.effective("membership", key);
    let mut mcast = McastConfig::default();
    for key in ["group", "bind", "ttl"] {
        if let Some(value) = set(key) {
            let _ = tribes::settings::Settings::set(&mut mcast, key, &value);
        }
    }
    let on = mcast.bind.map_or_else(|| "the system's choice".to_owned(), |bind| bind.to_string());
    let group = mcast.group;
    match loops_back(&mcast, Duration::from_secs(1)).await {
        Ok(()) => Finding::fine("multicast", format!("{group} comes back on {on}")),
        Err(error) => {
            let fix = "set [membership] bind to an interface with multicast (ip link), add a route (ip route add 224.0.0.0/4 dev …), \
                       or use [membership] type = \"static\"";
            Finding::fault("multicast", format!("{group} does not come back on {on}: {error}"), fix)
        }
    }
}

/// Whether the name of a peer is known. That it answers is not asked: it may be started later.
async fn resolves(peer: &str) -> Finding {
    let addr = peer.split('@').next().unwrap_or(peer).to_owned();
    match tokio::net::lookup_host(&addr).await.map(|mut all| all.next()) {
        Ok(Some(found)) => Finding::fine("peer", format!("{addr} is {found}")),
        Ok(None) => Finding::warning("peer", format!("{addr} has no address"), "correct the name, or /etc/hosts"),
        Err(error) => {
            Finding::warning("peer", format!("{addr} is not known: {error}"), "correct the name, or /etc/hosts")
        }
    }
}

/// How large packets may be on the interface with this address.
#[cfg(target_os = "linux")]
fn mtu(ip: IpAddr) -> Option<Finding> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    let name = all.find_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
        let v6 = address.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip()));
        (v4.or(v6) == Some(ip)).then_some(one.interface_name)
    })?;
    let mtu: usize = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?.trim().parse().ok()?;
    let seen = format!("{mtu} bytes on {name}");
    Some(if mtu < ETHERNET {
        let fix =
            "heartbeats with a long payload and udp messages above it are cut into packets, of which none may be lost";
        Finding::warning("mtu", seen, fix)
    } else {
        Finding::fine("mtu", seen)
    })
}

#[cfg(not(target_os = "linux"))]
fn mtu(_: IpAddr) -> Option<Finding> {
    None
}

/// Whether the clock can be right, and who needs that.
fn clock(config: &Config) -> Finding {
    if Env::real().wall_ms() < WRITTEN_MS {
        return Finding::fault("clock", "it stands before this program was written", "set it, or start chrony or ntpd");
    }
    let in_tribes_mode = config.interceptors().contains(&"encrypt")
        && config.effective("encrypt", "mode").as_deref() == Some("tribes")
        && config.effective("encrypt", "replay_window_time").as_deref() != Some("off");
    let kept = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid", "/var/run/ntpd.pid"]
        .into_iter()
        .any(|path| std::path::Path::new(path).exists());
    match (in_tribes_mode, kept) {
        (true, false) => {
            let window = config.effective("encrypt", "replay_window_time").unwrap_or_default();
            let seen = format!("nothing seems to keep it right, and encrypt refuses what is {window} off");
            Finding::warning("clock", seen, "start chrony or systemd-timesyncd on all members")
        }
        (_, true) => Finding::fine("clock", "kept right by a time service"),
        (false, false) => Finding::fine("clock", "plausible; nothing in this stack compares clocks"),
    }
}

/// Whether there are descriptors for as many connections as are allowed.
#[cfg(unix)]
fn descriptors(config: &Config) -> Option<Finding> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let allowed: u64 = config.get("receiver", "max_connections")?.parse().ok()?;
    let seen = format!("{soft} file descriptors, and up to {allowed} connections");
    Some(if soft < allowed {
        Finding::warning(
            "limits",
            seen,
            format!("ulimit -n {}, or lower [receiver] max_connections", (allowed + 1024).next_power_of_two()),
        )
    } else {
        Finding::fine("limits", seen)
    })
}

#[cfg(not(unix))]
fn descriptors(_: &Config) -> Option<Finding> {
    None
}
