use super::{FlowKey, Identity, seal::pod};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $remedy:literal;)*) => {
        /// Why a packet or socket was dropped. The one list: programs, `skepctl` and docs all read it.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)*
        }

        impl Reason {
            /// Every reason, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// From the number in a map; `None` for one that this version does not know.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name people look up, kebab-case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What happened, in a sentence.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)*
                }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)*
                }
            }
        }
    };
}

reasons! {
    /// The program runs on a device that is in no map.
    UnknownDevice = 1, "unknown-device", "skepd plumbs the replica anew within seconds; see `skepctl ps`";
    /// The frame carries a VLAN tag.
    VlanTag = 2, "vlan-tag", "send untagged frames";
    /// The Ethernet type is neither IPv4 nor IPv6.
    EtherType = 3, "ether-type", "only IPv4 and IPv6 cross a veth";
    /// ARP is never needed: the gateway is a permanent neighbour.
    Arp = 4, "arp", "nothing to do";
    /// Neighbour and router discovery is never needed: the gateway is a permanent neighbour.
    NeighborDiscovery = 5, "neighbor-discovery", "nothing to do";
    /// A header is cut short or its lengths contradict each other.
    BadLength = 6, "bad-length", "the sender builds broken packets";
    /// IPv4 options are not carried.
    Ipv4Options = 7, "ipv4-options", "send without IP options";
    /// An IPv6 routing header is not carried.
    RoutingHeader = 8, "routing-header", "send without a routing header";
    /// More than six IPv6 extension headers.
    ExtensionHeaders = 9, "extension-headers", "send fewer extension headers";
    /// The source MAC is not the replica's.
    SpoofedMac = 10, "spoofed-mac", "a process in the container forges frames";
    /// The source address is not the replica's.
    SpoofedAddress = 11, "spoofed-address", "a process in the container forges addresses, or uses one it added by itself";
    /// An address that no replica has.
    UnknownAddress = 12, "unknown-address", "use the service's name; the address is of a replica that is gone";
    /// The destination belongs to another environment.
    OtherEnvironment = 13, "other-environment", "environments are apart by construction";
    /// Same environment, but the two services share no network.
    NoSharedNetwork = 14, "no-shared-network", "name a common network in the compose file";
    /// A rule says no.
    Denied = 15, "denied", "see the rule that is named";
    /// The environment's or service's networks are internal: it has no way out.
    EgressOff = 16, "egress-off", "put the service into a network without `internal: true`";
    /// The destination is in a range that traffic may not leave to: private, link-local, metadata, multicast, reserved.
    EgressDenied = 17, "egress-denied", "only public addresses may be reached, and those that skepd's --listed-egress names, by who lists them";
    /// The host has no route there, or it is one of the host's own addresses.
    NoRoute = 18, "no-route", "the host itself cannot be reached from a container";
    /// The host would send it somewhere else than through an uplink.
    NotUplink = 19, "not-uplink", "other networks of the host cannot be reached from a container";
    /// A packet is still addressed to a VIP: sent by a raw socket or from a nested network namespace.
    UntranslatedVip = 20, "untranslated-vip", "use an ordinary TCP or UDP socket of the container";
    /// No service of this environment that shares a network has that VIP.
    UnknownVip = 21, "unknown-vip", "use the service's name";
    /// The service has no backend that may serve.
    NoBackend = 22, "no-backend", "see `skepctl ps` for why no replica runs";
    /// Too many new flows to the outside at once from this replica.
    FlowBudget = 23, "flow-budget", "the replica opens flows faster than its budget refills";
    /// A packet from outside that answers nothing the replica sent.
    NotAReply = 24, "not-a-reply", "containers are reached through services, never from outside";
    /// A process of the host that is not skepd.
    LocalProcess = 25, "local-process", "containers are not reachable from the host";
    /// An ICMP message across a boundary that neither asks for an echo nor is about a flow that crossed.
    UnrelatedIcmp = 26, "unrelated-icmp", "nothing to do";
    /// A later fragment across a boundary whose first fragment did not cross.
    OrphanFragment = 27, "orphan-fragment", "use path MTU discovery instead of fragments";
    /// A map entry changed each time it was read.
    TornRead = 28, "torn-read", "try again; if it lasts, report it";
    /// A DNS packet that is no well-formed question.
    BadDns = 29, "bad-dns", "the client sends broken DNS questions";
    /// Something other than DNS was sent to the DNS address.
    DnsPort = 30, "dns-port", "only port 53 and ping are served at the DNS address";
    /// Skep's own configuration of the node is missing.
    NoConfig = 31, "no-config", "start skepd";
    /// The kernel has no memory left for what a socket must remember (`net.core.optmem_max` bounds it per socket).
    SocketMemory = 32, "socket-memory", "free memory, or raise net.core.optmem_max";
    /// The kernel had no memory to rewrite the packet.
    KernelRefused = 33, "kernel-refused", "the host is short of memory";
    /// The replica is on another node, to which there is no tunnel now.
    NoTunnel = 34, "no-tunnel", "see `skepctl map dump NODES`; skepd's log says why a tunnel is down";
    /// More than fits through the tunnel to the replica's node; the sender was told how much does.
    TooBig = 35, "too-big", "nothing to do: senders send less from then on; one that does not ignores ICMP";
    /// A packet from another node whose source is none of the replicas that are known to be on other nodes.
    UnknownSender = 36, "unknown-sender", "if it lasts: nodes differ about who has an address, see skepd's log on both";
    /// A packet from another node to a replica that is not on this one.
    NotHere = 37, "not-here", "if it lasts: nodes differ about where a replica is, see skepd's log on both";
    /// A kernel says which multicast groups it listens to (IGMP, MLD), as it does for each new device; no group crosses a veth.
    MulticastReport = 38, "multicast-report", "nothing to do";
    /// The service says where it may go (`x-skep.egress`), and does not name the destination.
    NotListed = 39, "not-listed", "add the address to x-skep.egress of the service, then `skepctl up`";
}

impl Reason {
    /// Whether drops for the reason of this number tell nobody anything, since every healthy replica has them: they are
    /// counted, and told only to who asks. By number, as a program has it in memory.
    pub const fn is_routine(number: u32) -> bool {
        number == Self::MulticastReport as u32
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// What an [`Event`] tells.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// A packet or socket was dropped.
    Drop = 1,
    /// A socket was sent to a backend.
    Connect = 2,
}

/// Record of the EVENTS ring buffer; drops are rate-limited to one per reason, identity and CPU in 100 ms.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub at: u64,
    /// Whose packet or socket.
    pub identity: Identity,
    /// [`EventKind`] as a number.
    pub kind: u32,
    /// [`Reason`] as a number; 0 for a connect.
    pub reason: u32,
    /// The tuple; for a connect the destination is the backend.
    pub tuple: FlowKey,
}

pod!(Event: 64);
