use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use defguard_wireguard_rs::host::Host;
use ipnet::IpNet;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::info;

use super::keys::Keys;
use super::process::{CHARGE, socket};
use super::{Change, Kind, Peer, PeerSeen, PublicKey, PublicKeys, Seen, WireguardError, kernel, userspace};
use crate::config::{self, TunnelKind};
use crate::netlink::{LinkKind, Netlink, TunnelLink};
use crate::supervisor::{Ensured, Process, Supervisor};

/// The device of this node, whatever it is.
#[derive(Debug)]
pub struct Tunnel {
    device: String,
    kind: TunnelKind,
    keys: StdMutex<Keys>,
    netlink: Netlink,
    supervisor: Supervisor,
    socket: PathBuf,
    /// Two that ensure at once would each start a process.
    ensuring: Mutex<()>,
    /// That the process is of another build has been told.
    told: AtomicBool,
}

impl Tunnel {
    /// The tunnel of the daemon that runs with `config`, in the calling thread's network namespace; makes this node's
    /// private key when it has none. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`WireguardError::Key`], [`WireguardError::Netlink`].
    pub fn new(config: &config::Config) -> Result<Self, WireguardError> {
        Ok(Self {
            device: config.tunnel_device.clone(),
            kind: config.tunnel,
            keys: StdMutex::new(Keys::load(&config.state_dir)?),
            netlink: Netlink::connect()?,
            supervisor: supervisor(config),
            socket: socket(&config.run_dir),
            ensuring: Mutex::default(),
            told: AtomicBool::new(false),
        })
    }

    /// Has `program` run instead of this very binary.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { supervisor: self.supervisor.with_program(program), ..self }
    }

    /// Who this node is to its peers, and who it is going to be.
    pub fn keys(&self) -> PublicKeys {
        self.lock().public()
    }

    /// Makes the private key that is to take the present one's place, if there is none yet.
    ///
    /// # Errors
    /// [`WireguardError::Key`].
    pub fn make_next_key(&self) -> Result<(), WireguardError> {
        Ok(self.lock().make_next()?)
    }

    /// The next private key becomes the present one, which is forgotten. [`Change::SetPrivateKey`] then tells the device.
    ///
    /// # Errors
    /// [`WireguardError::Key`].
    pub fn switch_key(&self) -> Result<(), WireguardError> {
        Ok(self.lock().switch()?)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // A panic while it is held leaves nothing half done.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Makes the device if there is none, and adopts it if there is one: of a kernel with WireGuard that one's, else a
    /// process of its own is started.
    ///
    /// # Errors
    /// [`WireguardError`].
    pub async fn ensure(&self) -> Result<Kind, WireguardError> {
        let _only_one = self.ensuring.lock().await;
        let there = self.link().await?.map(|link| link.kind);
        let wanted = match (self.kind, there) {
            (TunnelKind::Off, _) => return Err(WireguardError::Off),
            // With the device its sessions would end, only for it to be of the other kind.
            (TunnelKind::Auto | TunnelKind::Kernel, Some(LinkKind::Wireguard)) => return Ok(Kind::Kernel),
            (TunnelKind::Auto | TunnelKind::Userspace, Some(LinkKind::Tun)) => Kind::Userspace,
            (TunnelKind::Auto, None) => {
                if self.kernel_has_it().await? {
                    Kind::Kernel
                } else {
                    Kind::Userspace
                }
            }
            (TunnelKind::Kernel, None | Some(LinkKind::Tun)) => Kind::Kernel,
            (TunnelKind::Userspace, None | Some(LinkKind::Wireguard)) => Kind::Userspace,
            (_, Some(LinkKind::Other)) => return Err(WireguardError::Occupied { device: self.device.clone() }),
        };
        match wanted {
            Kind::Kernel => {
                if !self.kernel_has_it().await? {
                    return Err(WireguardError::NoKernel);
                }
                self.supervisor.stop().await?;
                self.netlink.make_wireguard(&self.device).await?;
                info!(device = self.device, "Made the tunnel, of the kernel's WireGuard.");
            }
            Kind::Userspace => {
                if there == Some(LinkKind::Wireguard) {
                    self.netlink.delete_link(&self.device).await?;
                }
                let mut ensured = self.supervisor.ensure().await?;
                if let Ensured::Adopted { pid } = ensured
                    && self.link().await?.is_none()
                {
                    // It is ending: a process lets go of its device before its lock.
                    self.supervisor.ended(pid).await;
                    ensured = self.supervisor.ensure().await?;
                }
                match ensured {
                    Ensured::Adopted { pid } => {
                        if self.supervisor.is_of_another_build(pid) && !self.told.swap(true, Ordering::Relaxed) {
                            info!(
                                pid,
                                "The userspace tunnel is of another build, and goes on as it is. `systemctl restart \
                                skepd-tunnel`, or the end of its process, renews it and interrupts its sessions."
                            );
                        }
                    }
                    started => info!(device = self.device, pid = started.pid(), "Started the userspace tunnel."),
                }
            }
        }
        Ok(wanted)
    }

    /// The device as it is; `None` when there is none.
    ///
    /// # Errors
    /// [`WireguardError::Occupied`] when it is no tunnel, [`WireguardError::Read`] when it does not answer.
    pub async fn see(&self) -> Result<Option<Seen>, WireguardError> {
        let Some(link) = self.link().await? else { return Ok(None) };
        let failed = |source| WireguardError::Read { device: self.device.clone(), source };
        let at = SystemTime::now();
        let seen = match link.kind {
            LinkKind::Wireguard => {
                let device = self.device.clone();
                let host = blocking(move || kernel::see(&device)).await.map_err(failed)?;
                Seen { key: key_of(&host), foreign: link.rx_frame_errors, ..seen(at, Kind::Kernel, &link, &host) }
            }
            LinkKind::Tun => {
                let told = userspace::see(&self.socket).await.map_err(failed)?;
                let mut seen =
                    Seen { key: told.key, foreign: told.foreign, ..seen(at, Kind::Userspace, &link, &told.host) };
                for (key, peer) in &mut seen.peers {
                    peer.foreign = told.foreign_of.get(key).copied();
                }
                seen
            }
            LinkKind::Other => return Err(WireguardError::Occupied { device: self.device.clone() }),
        };
        Ok(Some(seen))
    }

    /// Has one thing changed.
    ///
    /// # Errors
    /// [`WireguardError::Gone`] when the device is not there any more, [`WireguardError::Change`].
    pub async fn apply(&self, change: &Change) -> Result<(), WireguardError> {
        let link = self.link().await?.ok_or_else(|| WireguardError::Gone { device: self.device.clone() })?;
        match change {
            Change::SetMtu(mtu) => return Ok(self.netlink.set_mtu(&self.device, *mtu).await?),
            Change::SetUp => return Ok(self.netlink.tunnel_up(&self.device).await?),
            _ => {}
        }
        let key = self.lock().present().clone();
        let done = match link.kind {
            LinkKind::Wireguard => {
                let (device, change) = (self.device.clone(), change.clone());
                blocking(move || kernel::apply(&device, &change, &key)).await
            }
            LinkKind::Tun => userspace::apply(&self.socket, change, &key).await,
            LinkKind::Other => return Err(WireguardError::Occupied { device: self.device.clone() }),
        };
        done.map_err(|source| WireguardError::Change {
            device: self.device.clone(),
            change: change.to_string(),
            source,
        })
    }

    /// Whether a device is this node's: it has a private key that nobody else has.
    pub fn is_own(&self, seen: &Seen) -> bool {
        self.has(seen.key)
    }

    fn has(&self, key: Option<PublicKey>) -> bool {
        let keys = self.keys();
        key.is_some_and(|key| key == keys.present || keys.next == Some(key))
    }

    /// Takes away what a daemon with another `--tunnel-device` has left: a process of the run directory that serves
    /// another device, and devices of the kernel's that have this node's private key.
    ///
    /// # Errors
    /// [`WireguardError`].
    pub async fn remove_others(&self) -> Result<(), WireguardError> {
        let serves_another = |process: &Process| served_by(process.pid()).is_some_and(|device| device != self.device);
        if self.supervisor.running()?.iter().any(serves_another) {
            self.supervisor.stop().await?;
            info!("Ended the userspace tunnel of another name.");
        }
        for device in self.netlink.wireguards().await?.into_iter().filter(|device| *device != self.device) {
            let (name, failed) = (device.clone(), device.clone());
            let host = blocking(move || kernel::see(&name)).await;
            let host = host.map_err(|source| WireguardError::Read { device: failed, source })?;
            if self.has(key_of(&host)) {
                self.netlink.delete_link(&device).await?;
                info!(device, "Removed the tunnel of another name.");
            }
        }
        Ok(())
    }

    async fn link(&self) -> Result<Option<TunnelLink>, WireguardError> {
        Ok(self.netlink.tunnel_link(&self.device).await?)
    }

    async fn kernel_has_it(&self) -> Result<bool, WireguardError> {
        let asked = blocking(kernel::is_there).await;
        asked.map_err(|source| WireguardError::Read { device: self.device.clone(), source })
    }
}

fn supervisor(config: &config::Config) -> Supervisor {
    Supervisor::new(&CHARGE, config, vec![("--tunnel-device", config.tunnel_device.clone().into())])
}

/// Ends the process of the daemon that runs with `config`, if there is one, and takes the device away. The private keys
/// stay.
///
/// # Errors
/// [`WireguardError::Supervisor`], [`WireguardError::Netlink`].
pub async fn remove(config: &config::Config) -> Result<(), WireguardError> {
    supervisor(config).stop().await?;
    let netlink = Netlink::connect()?;
    match netlink.tunnel_link(&config.tunnel_device).await? {
        Some(TunnelLink { kind: LinkKind::Wireguard, .. }) => Ok(netlink.delete_link(&config.tunnel_device).await?),
        _ => Ok(()),
    }
}

/// Whose a device of the kernel's is.
fn key_of(host: &Host) -> Option<PublicKey> {
    // A device without a key tells one of zeros.
    let key = host.private_key.as_ref().filter(|key| key.as_array() != [0; 32])?;
    Some(PublicKey::new(key.public_key().as_array()))
}

/// The device that a process has made, as the kernel tells of its descriptor (`tun_chr_show_fdinfo`).
fn served_by(pid: u32) -> Option<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
    let texts = descriptors.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.into_iter().find_map(|text| Some(text.lines().find_map(|line| line.strip_prefix("iff:"))?.trim().to_owned()))
}

/// Away from the runtime's threads. A new thread is in the network namespace of the one that starts it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn seen(at: SystemTime, kind: Kind, link: &TunnelLink, host: &Host) -> Seen {
    let mut peers = BTreeMap::new();
    for raw in host.peers.values() {
        let key = PublicKey::new(raw.public_key.as_array());
        let prefixes = raw.allowed_ips.iter().filter_map(|ip| IpNet::new(ip.address, ip.cidr).ok());
        let peer = Peer {
            key,
            endpoint: raw.endpoint,
            allowed: prefixes.collect(),
            keepalive: raw.persistent_keepalive_interval.filter(|seconds| *seconds > 0),
            // What has happened shows in the prefixes.
            takes_over: None,
        };
        // The kernel tells of a handshake that never was as one of 1970.
        let last_handshake = raw.last_handshake.filter(|then| *then > SystemTime::UNIX_EPOCH);
        let (rx, tx) = (raw.rx_bytes, raw.tx_bytes);
        peers.insert(key, PeerSeen { peer, last_handshake, rx, tx, foreign: None });
    }
    let TunnelLink { ifindex, up, mtu, .. } = *link;
    Seen { at, kind, ifindex, up, mtu, key: None, port: host.listen_port, foreign: 0, peers }
}
