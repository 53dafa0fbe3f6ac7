//! Frames as no well-behaved socket would send them, and the look at everything that arrives on a wire.
//!
//! Builders fill in what is right (lengths, checksums); a test then breaks exactly one thing.

mod packet;
mod wire;

pub use packet::{
    Ethernet, Ipv4, Ipv6, arp_request, echo_request4, echo_request6, extension, fragment_header, tcp_syn, udp,
};
pub use wire::{Wire, mac_of};

/// `ETH_P_IP`.
pub const IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`.
pub const IPV6: u16 = 0x86dd;
/// `ETH_P_ARP`.
pub const ARP: u16 = 0x0806;

/// IP protocol numbers, and IPv6 header types, by name.
pub mod protocol {
    /// Hop-by-hop options (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6_IN_IP: u8 = 41;
    /// Routing header (RFC 8200 section 4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// No next header (RFC 8200 section 4.7).
    pub const NONE: u8 = 59;
    /// Destination options (RFC 8200 section 4.6).
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}
