//! A door for `fuzz/properties`: readers that nothing outside of this crate calls. No interface, and no promise.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use crate::run::link;
use crate::vip::{Vip, netlink};
use crate::wire::Request;
use crate::{cgroup, procfs};

/// A request's number, and the request or why it is none; an error: the connection is broken.
///
/// # Errors
/// Why nothing can be understood any more.
pub fn request(body: &serde_json::Value) -> Result<(u64, Result<Request, String>), String> {
    link::numbered(body)
}

/// What a datagram of the kernel holds in answer to question `number`: how many messages, and how many of
/// them say that `address` is there.
///
/// # Errors
/// If it is none.
pub fn kernel_says(bytes: &[u8], number: u32, address: IpAddr) -> io::Result<(usize, usize)> {
    let vip = Vip { address, prefix: 24, interface: String::new() };
    let messages = netlink::answers(bytes, number)?;
    let there = messages.iter().filter(|message| {
        matches!(message, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(one))
            if netlink::is_it(one, &vip))
    });
    Ok((messages.len(), there.count()))
}

/// A datagram that says that `address` stands on an interface.
pub fn kernel_would_say(number: u32, address: IpAddr) -> Vec<u8> {
    let vip = Vip { address, prefix: 24, interface: String::new() };
    let inner = RouteNetlinkMessage::NewAddress(netlink::message(&vip, 2));
    let mut message = NetlinkMessage::from(inner);
    (message.header.flags, message.header.sequence_number) = (NLM_F_REQUEST, number);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Parent, and whether it is dead, of `/proc/PID/stat`.
pub fn stat(bytes: &[u8]) -> Option<(i32, bool)> {
    procfs::parse_stat(bytes).map(|process| (process.ppid, process.zombie))
}

/// The directory of the own control group, by `mountinfo` and `cgroup` of `/proc/self`.
pub fn control_group(mounts: &str, groups: &str) -> Option<PathBuf> {
    cgroup::locate(mounts, groups)
}
