//! Rules that let something cross between environments, or between services that share no network.

use crate::abi::{Grant, GrantKey, Identity};
use crate::tables::{Read, Tables};

/// How many keys may hold the rule for one flow: source, destination and port, each exact or wide.
///
/// Eight octets wide, so that the verifier follows the count on the stack.
const KEYS: u64 = 8;

/// The rule for what is exactly `asked`, the narrowest one first: an exact port before any port, then an exact
/// destination before a whole environment, then an exact source before a whole environment.
///
/// # Errors
/// [`crate::abi::Reason::TornRead`].
#[inline(always)]
pub fn grant(tables: &impl Tables, asked: &GrantKey) -> Read<Grant> {
    let mut width = 0;
    while width < KEYS {
        let any_port = width & 1 != 0;
        let key = GrantKey {
            source: widened(asked.source, width & 4 != 0),
            destination: widened(asked.destination, width & 2 != 0),
            port: if any_port { 0 } else { asked.port },
            protocol: if any_port { 0 } else { asked.protocol },
            pad: 0,
        };
        if let Some(grant) = tables.grant(&key)? {
            return Ok(Some(grant));
        }
        width += 1;
    }
    Ok(None)
}

/// The identity itself, or its whole environment.
#[inline(always)]
fn widened(identity: Identity, wide: bool) -> Identity {
    if wide { Identity { service: 0, ..identity } } else { identity }
}
