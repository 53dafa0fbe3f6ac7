use dataplane_ebpf::abi::{Addr, Device};

use super::destination::{Destination, Protocol};
use crate::error::CtlError;

/// A port that a client may have been given (RFC 6335 section 6).
const SOURCE_PORT: u16 = 49_152;
const HOP_LIMIT: u8 = 64;

/// The first frame that the source would send: a SYN, an empty datagram or an echo request.
pub(super) fn first(device: &Device, to: Addr, destination: &Destination) -> Result<Vec<u8>, CtlError> {
    let payload = payload(to, destination);
    let mut frame = Vec::new();
    frame.extend(device.host_mac);
    frame.extend(device.mac);
    let protocol = destination.protocol.number(to);
    if to.is_v4() {
        frame.extend(0x0800_u16.to_be_bytes());
        frame.extend(ipv4(device, to, protocol, payload.len()));
    } else if device.address6.is_none() {
        return Err(CtlError::Family { what: "the source".to_owned(), family: "IPv6" });
    } else {
        frame.extend(0x86dd_u16.to_be_bytes());
        frame.extend(ipv6(device, to, protocol, payload.len()));
    }
    frame.extend(payload);
    Ok(frame)
}

fn payload(to: Addr, destination: &Destination) -> Vec<u8> {
    let port = destination.port.unwrap_or(0).to_be_bytes();
    let ports = [SOURCE_PORT.to_be_bytes(), port].concat();
    match destination.protocol {
        // Sequence and acknowledgement, header length and SYN, window, checksum, urgent pointer (RFC 9293 section 3.1).
        Protocol::Tcp => [ports.as_slice(), &[0; 8], &[0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]].concat(),
        // Length and checksum (RFC 768).
        Protocol::Udp => [ports.as_slice(), &[0, 8, 0, 0]].concat(),
        // Type, code, checksum, identifier, sequence (RFC 792, RFC 4443 section 4.1).
        Protocol::Icmp => vec![if to.is_v4() { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1],
    }
}

/// RFC 791 section 3.1; the decision does not look at the checksum, which a device may leave to later as well.
fn ipv4(device: &Device, to: Addr, protocol: u8, payload: usize) -> Vec<u8> {
    let total = u16::try_from(payload + 20).unwrap_or(u16::MAX).to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0];
    [head.as_slice(), &device.address4.to_ne_bytes(), &to.v4_word().to_ne_bytes()].concat()
}

/// RFC 8200 section 3.
fn ipv6(device: &Device, to: Addr, protocol: u8, payload: usize) -> Vec<u8> {
    let length = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], protocol, HOP_LIMIT];
    [head.as_slice(), &device.address6.octets(), &to.octets()].concat()
}
