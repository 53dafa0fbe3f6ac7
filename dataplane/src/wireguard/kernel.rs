//! The kernel's device, told and asked by generic netlink (`include/uapi/linux/wireguard.h`).
//!
//! defguard_wireguard_rs sees to peers. It sets key and port with a flag that removes every peer, so these two are ours.

use std::io;
use std::os::fd::OwnedFd;

use defguard_wireguard_rs::host::Host;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer as Raw;
use defguard_wireguard_rs::{Kernel, WGApi, WireguardInterfaceApi as _};
use nix::sys::socket::SockProtocol;
use zeroize::Zeroizing;

use super::{Change, Peer, PrivateKey};
use crate::nlmsg::{ask, attribute, open, put_attribute, tell, text_attribute};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and two of its attributes (`include/uapi/linux/genetlink.h`).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `WG_CMD_SET_DEVICE` and attributes of the device.
const SET_DEVICE: u8 = 1;
const IFNAME: u16 = 2;
const PRIVATE_KEY: u16 = 3;
const LISTEN_PORT: u16 = 6;

/// Whether this kernel has WireGuard; a module is loaded by being asked for.
pub(super) fn is_there() -> io::Result<bool> {
    Ok(family(&open(SockProtocol::NetlinkGeneric)?)?.is_some())
}

/// The number that the kernel has for the family `wireguard`.
fn family(socket: &OwnedFd) -> io::Result<Option<u16>> {
    let body = [&[GET_FAMILY, 1, 0, 0][..], &text_attribute(FAMILY_NAME, "wireguard")].concat();
    let mut found = None;
    let asked = ask(socket, CONTROL, false, &body, |answer| {
        let id = answer.get(4..).and_then(|attributes| attribute(attributes, FAMILY_ID));
        found = id.and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(|()| found),
    }
}

/// Asks for everything.
pub(super) fn see(device: &str) -> io::Result<Host> {
    api(device)?.read_interface_data().map_err(io::Error::other)
}

/// Has it changed; a change that is about the link is not the device's.
pub(super) fn apply(device: &str, change: &Change, key: &PrivateKey) -> io::Result<()> {
    match change {
        Change::SetPrivateKey => {
            let octets = Zeroizing::new(key.secret().to_bytes());
            set(device, PRIVATE_KEY, octets.as_slice())
        }
        Change::SetPort(port) => set(device, LISTEN_PORT, &port.to_ne_bytes()),
        Change::PutPeer(peer) => api(device)?.configure_peer(&self::peer(peer)).map_err(io::Error::other),
        Change::RemovePeer(key) => api(device)?.remove_peer(&Key::new(*key.octets())).map_err(io::Error::other),
        Change::SetMtu(_) | Change::SetUp => Ok(()),
    }
}

fn api(device: &str) -> io::Result<WGApi<Kernel>> {
    WGApi::new(device).map_err(io::Error::other)
}

/// One attribute of the device, and nothing else of it.
fn set(device: &str, kind: u16, value: &[u8]) -> io::Result<()> {
    let socket = open(SockProtocol::NetlinkGeneric)?;
    let family = family(&socket)?.ok_or(io::ErrorKind::Unsupported)?;
    let body = [&[SET_DEVICE, 1, 0, 0][..], &text_attribute(IFNAME, device), &put_attribute(kind, value)].concat();
    tell(&socket, family, &Zeroizing::new(body))
}

/// A peer for either device: its prefixes are these and no others, whoever had them.
pub(super) fn peer(peer: &Peer) -> Raw {
    let mut raw = Raw::new(Key::new(*peer.key.octets()));
    raw.endpoint = peer.endpoint;
    // 0 takes a keepalive away.
    raw.persistent_keepalive_interval = Some(peer.keepalive.unwrap_or(0));
    raw.set_allowed_ips(
        peer.allowed.iter().map(|prefix| IpAddrMask::new(prefix.addr(), prefix.prefix_len())).collect(),
    );
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_own_families_and_no_other() {
        // Whatever this kernel has: an answer, not an error.
        is_there().unwrap();
    }
}
