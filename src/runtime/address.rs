//! The address under which an agent makes itself known to its controller.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// `host:port` for the controller to call, given what the agent has bound.
///
/// A host that the operator set wins. Otherwise it is the bound address, and when that is "any",
/// the first address of an interface that leads out of this machine, IPv4 before IPv6; on a machine
/// without a network, loopback.
pub(super) fn advertised(host: Option<&str>, bound: SocketAddr) -> String {
    let port = bound.port();
    match host {
        Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        Some(host) => format!("{host}:{port}"),
        None if bound.ip().is_unspecified() => SocketAddr::new(outward(), port).to_string(),
        None => bound.to_string(),
    }
}

fn outward() -> IpAddr {
    let interfaces = getifaddrs().into_iter().flatten();
    let outward = interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|interface| interface.address);
    let addresses = outward.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| v6.ip());
        // A link-local address means nothing on another machine.
        v4.or_else(|| v6().filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6))
    });
    addresses.min_by_key(IpAddr::is_ipv6).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_bound_address_is_advertised_as_it_is() {
        assert_eq!(advertised(None, bound("10.0.0.7:5118")), "10.0.0.7:5118");
        assert_eq!(advertised(None, bound("[fd00::7]:5118")), "[fd00::7]:5118");
    }

    #[test]
    fn a_host_of_the_operator_wins() {
        assert_eq!(
            advertised(Some("node-a.example"), bound("0.0.0.0:5118")),
            "node-a.example:5118"
        );
        assert_eq!(advertised(Some("fd00::7"), bound("[::]:5118")), "[fd00::7]:5118");
    }

    #[test]
    fn any_becomes_an_address_that_somebody_else_can_call() {
        let address = bound(&advertised(None, bound("0.0.0.0:5118")));
        assert!(!address.ip().is_unspecified());
        assert_eq!(address.port(), 5118);
    }
}
