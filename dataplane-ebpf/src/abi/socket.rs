use super::{Addr, Sealed, seal::pod, values::sealed};

/// What a socket was told: VIP and the backend it got. Threads that share a socket write without a lock,
/// hence the seal; its key is [`SocketEntry::KEY`], a socket's storage has none of its own.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketEntry {
    /// The VIP the program asked for, network order; none: free.
    pub vip: Addr,
    /// The backend, network order.
    pub backend: Addr,
    /// The service, so that a VIP given to another one later is not taken for it.
    pub service: u32,
    /// Generation of the set it was picked from.
    pub generation: u32,
    /// Port, network order, in the low 16 bits.
    pub port: u32,
    /// Zero.
    pub pad: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

impl SocketEntry {
    /// What entries are sealed for.
    pub const KEY: u32 = 0;
}

/// How many destinations a socket remembers.
pub const SOCKET_ENTRIES: usize = 4;

/// Value of SOCKETS: the last destinations of a socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketState {
    /// In no order.
    pub entries: [SocketEntry; SOCKET_ENTRIES],
    /// The entry to overwrite next, modulo [`SOCKET_ENTRIES`].
    pub next: u64,
}

pod! {
    SocketEntry: 56,
    SocketState: 232,
}

// The field named is the first that the seal does not cover.
sealed! {
    SocketEntry: seal,
}
