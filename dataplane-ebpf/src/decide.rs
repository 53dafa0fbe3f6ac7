//! What becomes of a packet or a socket call: pure functions over [`crate::tables::Tables`].

pub mod grant;
pub mod socket;
