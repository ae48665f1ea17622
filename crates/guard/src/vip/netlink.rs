//! Adds, finds and removes one address of an interface.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::Vip;

/// How an address stands on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It does not.
    Nowhere,
    /// With an end, as this module adds it.
    Passing,
    /// Without one, as people configure it.
    Permanent,
}

/// A connection to the kernel.
pub(super) struct Routes {
    socket: Socket,
    number: u32,
}

impl Routes {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, number: 0 })
    }

    /// Adds the address, or sets when it ends. Rounded up to a second, the kernel's unit.
    pub fn hold(&mut self, vip: &Vip, index: u32, lifetime: Duration) -> io::Result<()> {
        let mut message = message(vip, index);
        let seconds = lifetime.as_nanos().div_ceil(1_000_000_000);
        let mut life = CacheInfo::default();
        life.ifa_valid = u32::try_from(seconds).unwrap_or(FOREVER).clamp(1, FOREVER);
        // Of IPv6's, one that is not preferred is nobody's source.
        life.ifa_preferred = if vip.address.is_ipv4() { life.ifa_valid } else { 0 };
        message.attributes.push(AddressAttribute::CacheInfo(life));
        if vip.address.is_ipv6() {
            // It is known whose it is: no second may pass with asking.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Removes it; it may be gone.
    pub fn let_go(&mut self, vip: &Vip, index: u32) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::DelAddress(message(vip, index)), 0) {
            Err(why) if why.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    /// Looks for it on the interface.
    pub fn find(&mut self, vip: &Vip, index: u32) -> io::Result<Found> {
        self.send(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let mut found = Found::Nowhere;
        loop {
            for message in self.receive()? {
                match message {
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(one))
                        if one.header.index == index && is_it(&one, vip) =>
                    {
                        let permanent = one.header.flags.contains(AddressHeaderFlags::Permanent);
                        found = if permanent { Found::Permanent } else { Found::Passing };
                    }
                    _ => {}
                }
            }
        }
    }

    fn ask(&mut self, what: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(what, flags | NLM_F_ACK)?;
        for answer in self.receive()? {
            if let NetlinkPayload::Error(error) = answer {
                return if error.code.is_none() { Ok(()) } else { Err(error.to_io()) };
            }
        }
        Err(io::Error::other("the kernel did not answer"))
    }

    fn send(&mut self, what: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let mut message = NetlinkMessage::from(what);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.number;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// One datagram's messages that answer the last question.
    fn receive(&mut self) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
        let (bytes, _) = self.socket.recv_from_full()?;
        answers(&bytes, self.number)
    }
}

/// The messages of a datagram that answer that question.
pub(crate) fn answers(
    bytes: &[u8],
    number: u32,
) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
    let mut rest = bytes;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
        let message = message.map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or_default();
        if message.header.sequence_number == number {
            messages.push(message.payload);
        }
    }
    Ok(messages)
}

/// As good as for ever, and yet not what people configure: fifty years.
const FOREVER: u32 = 50 * 365 * 24 * 3600;
/// For an address that is held without a deadline.
pub(super) const NO_END: Duration = Duration::from_secs(FOREVER as u64);

pub(crate) fn message(vip: &Vip, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family =
        if vip.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = vip.prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(vip.address), AddressAttribute::Address(vip.address)];
    message
}

pub(crate) fn is_it(message: &AddressMessage, vip: &Vip) -> bool {
    // IPv4 says the own one as Local, IPv6 as Address.
    let own = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let is = |address: Option<IpAddr>| address == Some(vip.address);
    is(own.or(other))
}
