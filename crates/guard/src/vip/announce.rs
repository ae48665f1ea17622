//! What a network is told when an address has moved: gratuitous ARP (RFC 5227, 1.1 and 3), or an unsolicited neighbour
//! advertisement (RFC 4861, 4.4 and 7.2.6). The frames are pure.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// A network card's address.
type Mac = [u8; 6];

const EVERYBODY: Mac = [0xff; 6];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;

/// Says on the interface that `address` is there now.
pub(super) fn announce(address: IpAddr, index: u32) -> io::Result<()> {
    let link = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let mac = bind(&link, index)?;
    let frames = match address {
        IpAddr::V4(address) => vec![arp(mac, address, 1), arp(mac, address, 2)],
        IpAddr::V6(address) => vec![advertisement(mac, address)],
    };
    for frame in frames {
        nix::sys::socket::send(link.as_raw_fd(), &frame, nix::sys::socket::MsgFlags::MSG_DONTWAIT)?;
    }
    Ok(())
}

/// Sends and hears on this interface alone; its card's address.
fn bind(link: &impl AsRawFd, index: u32) -> io::Result<Mac> {
    let bad_index = |_| io::Error::from_raw_os_error(libc::ENODEV);
    // SAFETY: all bytes zero are a valid address of this kind.
    let mut place: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    place.sll_family = libc::AF_PACKET as u16;
    place.sll_ifindex = i32::try_from(index).map_err(bad_index)?;
    let mut length = size_of_val(&place) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `place`.
    let bound = unsafe { libc::bind(link.as_raw_fd(), (&raw const place).cast(), length) };
    Errno::result(bound)?;
    // SAFETY: the pointers describe `place` and its length, which outlive the call.
    let named =
        unsafe { libc::getsockname(link.as_raw_fd(), (&raw mut place).cast(), &raw mut length) };
    Errno::result(named)?;
    let mac = place.sll_addr.first_chunk().filter(|_| place.sll_halen == 6);
    mac.copied().ok_or_else(|| io::Error::other("the interface has no Ethernet address"))
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes()].concat()
}

/// Operation 1 asks for the own address, 2 answers that; each is heeded by some.
fn arp(mac: Mac, address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = ethernet(EVERYBODY, mac, ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&if operation == 1 { [0; 6] } else { mac });
    frame.extend_from_slice(&address.octets());
    frame
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    // Type 136, code, checksum; "override what you know".
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    // Option 2, one unit of eight bytes: the link-layer address.
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, IPV6);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    // Neighbours believe only what no router has passed on.
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend_from_slice(&message);
    frame
}

/// RFC 4443, 2.3: over a pseudo header and the message.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let whole = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6], message].concat();
    let words = whole.chunks(2).map(|two| {
        u32::from(u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn arp_names_the_address_as_the_cards() {
        let frame = arp(MAC, Ipv4Addr::new(10, 77, 0, 100), 1);
        let expected = [
            &[0xff; 6][..],
            &MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &MAC,
            &[10, 77, 0, 100, 0, 0, 0, 0, 0, 0, 10, 77, 0, 100],
        ]
        .concat();
        assert_eq!(frame, expected);
        assert_eq!(frame.len(), 42);
        assert_eq!(&arp(MAC, Ipv4Addr::LOCALHOST, 2)[32..38], &MAC);
    }

    #[test]
    fn an_advertisement_sums_up_to_nothing() {
        let address = "fd00::64".parse().unwrap();
        let frame = advertisement(MAC, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[14 + 4..14 + 8], [0, 32, ICMPV6, 255]);
        // The sum over what holds its own checksum is zero.
        assert_eq!(checksum(address, ALL_NODES, &frame[54..]), 0);
        assert_eq!(&frame[54 + 26..], &MAC);
    }
}
