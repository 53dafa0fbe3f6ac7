//! Of the tunnel to the other nodes.

use clap::ValueEnum;

/// Which WireGuard device leads to the other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TunnelKind {
    /// The kernel's where it has one, else the userspace device.
    Auto,
    /// The kernel's.
    Kernel,
    /// A process of its own, `skepd tunnel`.
    Userspace,
    /// None.
    Off,
}

/// As the kernel takes it (`dev_valid_name`), and so that no other name can be meant.
pub(super) fn device_name(name: &str) -> Result<String, String> {
    let fits = (1..libc::IFNAMSIZ).contains(&name.len());
    let plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    match fits && plain && !name.starts_with(['.', '-']) {
        true => Ok(name.to_owned()),
        false => Err("a device's name has up to 15 letters, digits, hyphens, underscores and dots".to_owned()),
    }
}
