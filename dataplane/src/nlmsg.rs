//! Netlink messages as octets, for the families that no crate here knows.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use rtnetlink::sys::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// The longest datagram that the kernel makes of a dump.
const DATAGRAM_MAX: usize = 32 * 1024;

/// A socket of one netlink family, in the calling thread's network namespace.
pub(crate) fn open(family: SockProtocol) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, family)?)
}

/// A socket to be read when there is something to be read.
pub(crate) fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    socket.set_non_blocking(true)?;
    // SAFETY: the socket owns its descriptor, and nobody takes it out of there.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Asks, and gives the body of each message of the answer to `each`. The kernel makes the answer while it is
/// asked, so nothing is waited for.
pub(crate) fn ask(socket: &OwnedFd, kind: u16, dump: bool, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let flags = if dump { libc::NLM_F_DUMP } else { 0 };
    exchange(socket, &request(kind, flags, body), dump, &mut each)
}

/// Has the kernel change something, and waits until it has.
pub(crate) fn tell(socket: &OwnedFd, kind: u16, body: &[u8]) -> io::Result<()> {
    exchange(socket, &request(kind, libc::NLM_F_ACK, body), true, &mut |_| {})
}

/// Sends a request and reads its answer: all of it when that has an end, else one datagram.
fn exchange(socket: &OwnedFd, request: &[u8], ends: bool, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, message, after)) = next_message(rest) {
            match i32::from(kind) {
                // What ends a dump before its first message is told by its last.
                libc::NLMSG_DONE | libc::NLMSG_ERROR => match -i32::from_ne_bytes(word(message, 0)) {
                    0 => return Ok(()),
                    error => return Err(io::Error::from_raw_os_error(error)),
                },
                _ => each(message),
            }
            rest = after;
        }
        if !ends {
            return Ok(());
        }
    }
}

fn request(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | flags) as u16;
    let mut request = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port.
    request.extend(u32::to_ne_bytes(1));
    request.extend(u32::to_ne_bytes(0));
    request.extend(body);
    request
}

/// Type and body of the first message, and what comes after it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((kind, bytes.get(HEADER..length)?, bytes.get(next..)?))
}

/// Type and payload of each attribute (`struct nlattr`).
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// `NLA_TYPE_MASK`.
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE, payload))
    })
}

/// The payload of the first attribute of that type.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, payload)| (kind == wanted).then_some(payload))
}

/// Four octets, or zeros beyond the end.
pub(crate) fn word(bytes: &[u8], offset: usize) -> [u8; 4] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default()
}

/// A text attribute, with its final zero.
pub(crate) fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    put_attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// An attribute, padded to whole words.
pub(crate) fn put_attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut attribute = (length as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(payload);
    attribute.resize(length.next_multiple_of(4), 0);
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_whatever_their_length() {
        let bytes = [text_attribute(1, "filter"), text_attribute(2, "DOCKER-USER"), text_attribute(3, "abc")].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(1, &b"filter\0"[..]), (2, &b"DOCKER-USER\0"[..]), (3, &b"abc\0"[..])]);
        assert_eq!(attribute(&bytes, 2), Some(&b"DOCKER-USER\0"[..]));
        assert_eq!(attribute(&bytes[..bytes.len() - 6], 3), None, "cut off");
    }
}
