//! Ports that can be given up and taken again.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context as _, bail};
use rand::{TryRng as _, rngs::SysRng};

/// A free port of 127.0.0.1.
///
/// Below the ports that the kernel gives out: a port of those may go to somebody else meanwhile,
/// and a client that keeps on calling such a port may even be connected to itself.
pub(super) fn port_to_keep() -> anyhow::Result<SocketAddr> {
    const FIRST: u16 = 15_000;
    let first_given_out = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u16);
    let range = u32::from(first_given_out.saturating_sub(FIRST).max(1));
    for _ in 0..1_000 {
        let random = SysRng.try_next_u32().context("the system gives no entropy")?;
        let port = FIRST + u16::try_from(random % range).expect("the range is one of ports");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port of 127.0.0.1 between {FIRST} and {first_given_out}")
}
