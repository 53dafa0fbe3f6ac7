//! The userspace device, told and asked by its socket.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use defguard_wireguard_rs::host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::key::{hex, unhex};
use super::{Change, PrivateKey, PublicKey, kernel};

/// How long the device may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What it tells.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) host: Host,
    pub(super) key: Option<PublicKey>,
    pub(super) foreign: u64,
    pub(super) foreign_of: HashMap<PublicKey, u64>,
}

/// Asks for everything.
pub(super) async fn see(socket: &Path) -> io::Result<Told> {
    told(&ask(socket, "get=1\n\n").await?)
}

/// Has it changed; a change that is about the link is not the device's.
pub(super) async fn apply(socket: &Path, change: &Change, key: &PrivateKey) -> io::Result<()> {
    let text = match change {
        Change::SetPrivateKey => {
            let mut text = Zeroizing::new(String::with_capacity(128));
            text.extend(["private_key=", key.hex().as_str(), "\n"]);
            text
        }
        Change::SetPort(port) => format!("listen_port={port}\n").into(),
        Change::PutPeer(peer) => {
            let text = kernel::peer(peer).as_uapi_update();
            let Some(before) = peer.takes_over else { return set(socket, &text).await };
            return match set(socket, &format!("{text}takes_over={}\n", *hex(before.octets()))).await {
                // A process of an earlier build does not know that line, and is told what it knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(socket, &text).await,
                told => told,
            };
        }
        Change::RemovePeer(key) => format!("public_key={}\nremove=true\n", *hex(key.octets())).into(),
        Change::SetMtu(_) | Change::SetUp => return Ok(()),
    };
    set(socket, &text).await
}

/// Settings, a line each.
async fn set(socket: &Path, settings: &str) -> io::Result<()> {
    let mut request = Zeroizing::new(String::with_capacity(settings.len() + 16));
    request.extend(["set=1\n", settings, "\n"]);
    ask(socket, &request).await.map(drop)
}

/// A request and the answer to it, without its last line.
async fn ask(socket: &Path, request: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (told, errno) = answer.trim_end().rsplit_once("errno=").ok_or(io::ErrorKind::UnexpectedEof)?;
    match errno.parse() {
        Ok(0) => Ok(told.to_owned()),
        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Takes the lines that only this device has out of an answer; the rest is everybody's.
fn told(answer: &str) -> io::Result<Told> {
    let (mut key, mut foreign, mut foreign_of, mut peer) = (None, 0, HashMap::new(), None);
    let mut common = String::with_capacity(answer.len());
    for line in answer.lines() {
        match line.split_once('=') {
            Some(("own_public_key", value)) => key = unhex(value).map(|octets| PublicKey::new(*octets)),
            Some(("foreign_packets", value)) => {
                let count = value.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match peer {
                    None => foreign = count,
                    Some(peer) => drop(foreign_of.insert(peer, count)),
                }
            }
            pair => {
                if let Some(("public_key", value)) = pair {
                    peer = unhex(value).map(|octets| PublicKey::new(*octets));
                }
                common.extend([line, "\n"]);
            }
        }
    }
    common.push_str("errno=0\n");
    let host = Host::parse_uapi(common.as_bytes())?;
    Ok(Told { host, key, foreign, foreign_of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_our_own_are_read_beside_everybodys() {
        let (own, peer) = ("01".repeat(32), "02".repeat(32));
        let answer = format!(
            "own_public_key={own}\nlisten_port=51820\nforeign_packets=9\npublic_key={peer}\nendpoint=192.0.2.1:51820\n\
            persistent_keepalive_interval=0\nallowed_ip=10.1.0.0/24\nrx_bytes=5\ntx_bytes=6\nforeign_packets=4\n"
        );
        let told = told(&answer).unwrap();
        assert_eq!((told.key, told.foreign), (Some(PublicKey::new([1; 32])), 9));
        assert_eq!(told.foreign_of[&PublicKey::new([2; 32])], 4);
        let peer = told.host.peers.values().next().unwrap();
        assert_eq!((told.host.listen_port, peer.rx_bytes, peer.allowed_ips.len()), (51820, 5, 1));
    }
}
