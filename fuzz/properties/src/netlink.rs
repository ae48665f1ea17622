//! The kernel's answers about addresses.

use std::net::IpAddr;

use howdah_guard::fuzzing::{kernel_says, kernel_would_say};

use crate::draw::Draw;

/// A datagram is read to its end, whatever lengths it tells; what this program would be told of its own address is
/// understood, also behind what another question was answered.
pub fn netlink(bytes: &[u8]) -> bool {
    let mut draw = Draw(bytes);
    let (number, six) = (u32::from(draw.byte()), draw.flag());
    let address: IpAddr = if six { "fd00::64" } else { "10.0.0.100" }.parse().expect("an address");
    let datagram = draw.0;
    let said = kernel_says(datagram, number, address);
    if let Ok((messages, there)) = said {
        assert!(there <= messages && messages <= datagram.len() / 16, "{messages} messages");
        // Each message begins at a multiple of four: only then something can stand behind it.
        if datagram.len().is_multiple_of(4) {
            let own = kernel_would_say(number, address);
            let both = kernel_says(&[datagram, &own].concat(), number, address);
            let (more, also_there) = both.expect("two datagrams, one behind the other");
            let swallowed = (more, also_there) == (messages, there);
            assert!(
                swallowed || (more, also_there) == (messages + 1, there + 1),
                "{more} {also_there}"
            );
        }
    }
    said.is_ok_and(|(messages, _)| messages > 0)
}
