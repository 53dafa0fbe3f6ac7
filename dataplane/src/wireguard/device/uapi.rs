//! What a device is told, in the text that every implementation of WireGuard takes
//! (<https://www.wireguard.com/xplatform/>), with a line of its own, `takes_over`, about a peer that gets another one's
//! prefixes when it is first heard of, and two in the answer: `own_public_key` instead of the private one, which is told
//! to nobody, and `foreign_packets` after the lines of a peer.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::wireguard::key::unhex;
use crate::wireguard::{PrivateKey, PublicKey};

/// What a client wants.
#[derive(Debug)]
pub(super) enum Request {
    Get,
    Set(Vec<Setting>),
}

/// One thing that is to be otherwise.
#[derive(Debug)]
pub(super) enum Setting {
    PrivateKey(PrivateKey),
    Port(u16),
    ReplacePeers,
    Peer(PeerSetting),
}

/// What is to be otherwise about a peer; the rest stays.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PeerSetting {
    pub(super) key: PublicKey,
    pub(super) remove: bool,
    /// Not a new one.
    pub(super) update_only: bool,
    pub(super) endpoint: Option<SocketAddr>,
    /// Seconds; 0 for none.
    pub(super) keepalive: Option<u16>,
    /// The prefixes of before are none of its any more.
    pub(super) replace_allowed: bool,
    pub(super) allowed: Vec<IpNet>,
    /// Whose prefixes it gets when it is first heard of.
    pub(super) takes_over: Option<PublicKey>,
}

/// Reads a request, all of it before any of it is done. `None` is what this device does not understand.
pub(super) fn parse(text: &str) -> Option<Request> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    match lines.next()? {
        "get=1" => lines.next().is_none().then_some(Request::Get),
        "set=1" => {
            let mut settings = Vec::new();
            for line in lines {
                let (key, value) = line.split_once('=')?;
                take(&mut settings, key, value)?;
            }
            Some(Request::Set(settings))
        }
        _ => None,
    }
}

fn take(settings: &mut Vec<Setting>, key: &str, value: &str) -> Option<()> {
    match key {
        "private_key" => settings.push(Setting::PrivateKey(PrivateKey::new(&*unhex(value)?))),
        "listen_port" => settings.push(Setting::Port(value.parse().ok()?)),
        "replace_peers" if value == "true" => settings.push(Setting::ReplacePeers),
        "public_key" => settings.push(Setting::Peer(PeerSetting::of(PublicKey::new(*unhex(value)?)))),
        key => {
            let Some(Setting::Peer(peer)) = settings.last_mut() else { return None };
            match key {
                "remove" => peer.remove = value == "true",
                "update_only" => peer.update_only = value == "true",
                "endpoint" => peer.endpoint = Some(value.parse().ok()?),
                "persistent_keepalive_interval" => peer.keepalive = Some(value.parse().ok()?),
                "replace_allowed_ips" => peer.replace_allowed = value == "true",
                "allowed_ip" => peer.allowed.push(value.parse().ok()?),
                "takes_over" => peer.takes_over = Some(PublicKey::new(*unhex(value)?)),
                "protocol_version" if value == "1" => {}
                _ => return None,
            }
        }
    }
    Some(())
}

impl PeerSetting {
    fn of(key: PublicKey) -> Self {
        Self {
            key,
            remove: false,
            update_only: false,
            endpoint: None,
            keepalive: None,
            replace_allowed: false,
            allowed: Vec::new(),
            takes_over: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn a_peer_has_the_lines_after_its_key() {
        let text = format!(
            "set=1\nlisten_port=51820\npublic_key={KEY}\nendpoint=[2001:db8::1]:51820\npersistent_keepalive_interval=25\n\
            replace_allowed_ips=true\nallowed_ip=10.1.0.0/24\nallowed_ip=fd00::/64\ntakes_over={KEY}\npublic_key={KEY}\n\
            remove=true\n\n"
        );
        let Some(Request::Set(settings)) = parse(&text) else { panic!("not understood") };
        let [Setting::Port(51820), Setting::Peer(put), Setting::Peer(remove)] = &settings[..] else {
            panic!("{settings:?}")
        };
        assert_eq!((put.keepalive, put.allowed.len(), put.replace_allowed, put.remove), (Some(25), 2, true, false));
        assert_eq!(put.takes_over, Some(PublicKey::new([1; 32])));
        assert_eq!(remove, &PeerSetting { remove: true, ..PeerSetting::of(PublicKey::new([1; 32])) });
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        assert!(matches!(parse("get=1\n\n"), Some(Request::Get)));
        for wrong in ["", "get=2\n", "set=1\nallowed_ip=10.0.0.0/8\n", "set=1\npublic_key=01\n", "set=1\nfwmark=1\n"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        for line in ["preshared_key=01", "takes_over=01", "allowed_ip=10.0.0.0/33", "endpoint=host:1", "nonsense"] {
            assert!(parse(&format!("set=1\npublic_key={KEY}\n{line}\n")).is_none(), "{line}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let request = parse(&format!("set=1\nprivate_key={KEY}\n\n")).unwrap();
        assert!(!format!("{request:?}").contains("0101"), "{request:?}");
    }
}
