//! The address under which an agent makes itself known to its controller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use http::uri::Authority;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// `host:port` for the controller to call, given what the agent has bound.
///
/// What the operator set wins: a host, with a port or without. Otherwise it is the bound address,
/// and when that is "any", the address from which this machine would call the world; IPv4 if it
/// has one and `0.0.0.0` was bound, IPv6 if `[::]` was; on a machine without a network, loopback.
pub(super) fn advertised(set: Option<&str>, bound: SocketAddr) -> String {
    let port = bound.port();
    match set {
        Some(host) if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        Some(address) if has_port(address) => address.to_owned(),
        Some(host) => format!("{host}:{port}"),
        None if bound.ip().is_unspecified() => {
            let ip = outward(bound.is_ipv6()).unwrap_or(match bound.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
            SocketAddr::new(ip, port).to_string()
        }
        None => bound.to_string(),
    }
}

/// Whether a controller could call such an address, if it is right.
pub(super) fn can_be_called(address: &str) -> bool {
    address.parse::<Authority>().is_ok_and(|address| {
        !address.host().is_empty()
            && !address.as_str().contains('@')
            && address.port_u16().is_some_and(|port| port != 0)
    })
}

fn has_port(address: &str) -> bool {
    let after_host = address.rsplit(']').next().unwrap_or(address);
    after_host.contains(':')
}

/// The address that leads out of this machine; of the preferred family, or of the other if there
/// is none and a socket bound to "any" of the preferred takes both.
fn outward(prefer_v6: bool) -> Option<IpAddr> {
    let found = routed(prefer_v6).or_else(|| of_an_interface(prefer_v6));
    match prefer_v6 {
        true => found.or_else(|| routed(false)).or_else(|| of_an_interface(false)),
        false => found,
    }
}

/// The source address of the default route. Connecting a UDP socket sends nothing: it only asks the
/// routing table. The destinations are reserved for documentation.
fn routed(v6: bool) -> Option<IpAddr> {
    let (any, far) = match v6 {
        true => ("[::]:0", "[2001:db8::1]:9"),
        false => ("0.0.0.0:0", "192.0.2.1:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Of an interface, for a machine without a default route.
fn of_an_interface(v6: bool) -> Option<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let outward = interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|interface| interface.address);
    let mut addresses = outward.filter_map(|address| match v6 {
        false => address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())),
        // A link-local address means nothing on another machine.
        true => address
            .as_sockaddr_in6()
            .map(|v6| v6.ip())
            .filter(|ip| !ip.is_unicast_link_local())
            .map(IpAddr::V6),
    });
    addresses.next()
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
        assert_eq!(advertised(Some("[fd00::7]"), bound("[::]:5118")), "[fd00::7]:5118");
        // Behind a translated port.
        assert_eq!(advertised(Some("gate:7000"), bound("0.0.0.0:5118")), "gate:7000");
        assert_eq!(advertised(Some("[fd00::7]:7000"), bound("[::]:5118")), "[fd00::7]:7000");
    }

    #[test]
    fn what_cannot_be_called_is_known() {
        for set in ["node-a", "gate:7000", "fd00::7", "[fd00::7]", "[fd00::7]:7000", "10.0.0.7"] {
            let address = advertised(Some(set), bound("0.0.0.0:5118"));
            assert!(can_be_called(&address), "{address}");
        }
        for set in
            ["", ":99", "gate:", "gate:99999", "gate:0", "http://gate:1", "a b", "gate/x", "a@b"]
        {
            let address = advertised(Some(set), bound("0.0.0.0:5118"));
            assert!(!can_be_called(&address), "{address}");
        }
    }

    #[test]
    fn any_becomes_an_address_that_somebody_else_can_call() {
        let address = bound(&advertised(None, bound("0.0.0.0:5118")));
        assert!(address.is_ipv4() && !address.ip().is_unspecified());
        assert_eq!(address.port(), 5118);
        let address = bound(&advertised(None, bound("[::]:5118")));
        assert!(!address.ip().is_unspecified());
    }
}
