//! The host's name servers.

use std::fs::Metadata;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use super::PORT;

/// The servers that a resolv.conf(5) names, read again whenever the file is another.
///
/// A stub resolver on the loopback (systemd-resolved's 127.0.0.53) is a server like any other: the forwarder lives in the
/// host's own network namespace, and so keeps whatever split DNS the stub knows.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    /// The forwarder's own address, which would be asked in a circle.
    own: Ipv4Addr,
    last: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    stamp: Stamp,
    servers: Arc<[SocketAddr]>,
}

/// What tells one state of a file from another: symlinks change target, editors write a new file in place of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl ResolvConf {
    pub(super) fn new(path: PathBuf, own: Ipv4Addr) -> Self {
        Self { path, own, last: Mutex::new(None) }
    }

    /// The servers as the file names them now. One stat(2) a question costs a microsecond and misses no change, which
    /// a watch on a chain of symlinks does.
    pub(super) fn servers(&self) -> Arc<[SocketAddr]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = std::fs::metadata(&self.path).map(|meta| Stamp::from(&meta));
        if let (Some(read), Ok(stamp)) = (&*last, &stamp)
            && read.stamp == *stamp
        {
            return Arc::clone(&read.servers);
        }
        match stamp.and_then(|stamp| Ok((stamp, read(&self.path)?))) {
            Ok((stamp, text)) => {
                let servers: Arc<[SocketAddr]> =
                    parse(&text).into_iter().filter(|server| server.ip() != IpAddr::V4(self.own)).collect();
                info!(file = %self.path.display(), ?servers, "Name servers of the outside.");
                *last = Some(Read { stamp, servers: Arc::clone(&servers) });
                servers
            }
            // Between two writes of whoever manages the file: what it said before is the best there is.
            Err(error) => {
                warn!(file = %self.path.display(), %error, "Cannot read the host's name servers.");
                last.as_ref().map_or_else(|| Arc::from([]), |read| Arc::clone(&read.servers))
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The `nameserver` lines; the local machine when there is none (resolv.conf(5)).
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

fn server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
    match address.split_once('%') {
        None => address.parse::<IpAddr>().ok().map(|ip| (ip, PORT).into()),
        Some((ip, scope)) => {
            let scope = scope.parse().or_else(|_| nix::net::if_::if_nametoindex(scope)).ok()?;
            Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_both_families_are_read() {
        let text = "# comment\nsearch lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1 # second\n\
                    nameserver fe80::1%lo\noptions edns0\nnameserver nonsense\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"].map(|s| s.parse().unwrap());
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn without_any_the_machine_itself_is_asked() {
        assert_eq!(parse("search lan\n"), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_its_own_address_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let conf = ResolvConf::new(path.clone(), Ipv4Addr::new(10, 224, 0, 53));
        assert_eq!(*conf.servers(), ["192.0.2.1:53".parse().unwrap()]);
        std::fs::write(&path, "nameserver 10.224.0.53\nnameserver 192.0.2.20\n").unwrap();
        assert_eq!(*conf.servers(), ["192.0.2.20:53".parse().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*conf.servers(), ["192.0.2.20:53".parse().unwrap()]);
    }
}
