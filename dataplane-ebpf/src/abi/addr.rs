use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of 16 octets in network byte order; IPv4 is v4-mapped (RFC 4291 section 2.5.5.2).
///
/// Held as four words so that the programs compare and hash it without byte loads; a word's *memory*
/// is in network order, so its numeric value depends on the machine.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub [u32; 4]);

/// The third word of every v4-mapped address.
const V4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// The address `::`, which stands for "none" in every value of the ABI.
    pub const NONE: Self = Self([0; 4]);

    /// From an IPv4 address as it lies in a packet: the memory of `word` is in network order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, V4_MAPPED, word])
    }

    /// From the 16 octets of an IPv6 header field.
    #[inline(always)]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The 16 octets, network byte order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// Whether this is a v4-mapped address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == V4_MAPPED
    }

    /// The IPv4 address as it lies in a packet; meaningful only when [`Self::is_v4`].
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        self.0[3]
    }

    /// Whether this is [`Self::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 0
    }

    /// As the standard library has it; v4-mapped becomes [`IpAddr::V4`].
    pub const fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            let o = self.0[3].to_ne_bytes();
            IpAddr::V4(Ipv4Addr::new(o[0], o[1], o[2], o[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from_octets(self.octets()))
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from_octets(ip.octets())
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl core::fmt::Debug for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// A prefix as network and mask, both 16 octets (an IPv4 prefix of length *n* has mask length 96 + *n*).
/// A pool whose mask is all zero is absent and contains nothing.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pool {
    /// The prefix' first address.
    pub network: Addr,
    /// Ones for the bits that count.
    pub mask: Addr,
}

impl Pool {
    /// The pool of `prefix_len` bits (0 to 128, or 0 to 32 for an IPv4 network) at `network`.
    pub fn new(network: IpAddr, prefix_len: u8) -> Self {
        let bits = if network.is_ipv4() { u32::from(prefix_len) + 96 } else { u32::from(prefix_len) };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let mask = Addr::from_octets(mask.to_be_bytes());
        let network = Addr::from(network);
        let mut masked = Addr::NONE;
        for (out, (n, m)) in masked.0.iter_mut().zip(network.0.iter().zip(mask.0)) {
            *out = n & m;
        }
        Self { network: masked, mask }
    }

    /// Whether `addr` lies in the pool.
    #[inline(always)]
    pub fn contains(&self, addr: &Addr) -> bool {
        (addr.0[0] & self.mask.0[0]) == self.network.0[0]
            && (addr.0[1] & self.mask.0[1]) == self.network.0[1]
            && (addr.0[2] & self.mask.0[2]) == self.network.0[2]
            && (addr.0[3] & self.mask.0[3]) == self.network.0[3]
            && !self.mask.is_none()
    }
}
