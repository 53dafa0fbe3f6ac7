//! What a new node is given by hand: where to ask, and the secret that lets it in once.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::ClusterError;
use crate::random;
use crate::store::snapshot::checksum;

/// Octets that name a token.
pub(super) const ID: usize = 8;
/// Octets of its secret.
pub(super) const SECRET: usize = 32;
/// In front of it, so that people and programs that look for secrets know it.
const START: &str = "skep1-";
/// Octets of a checksum at the end: what was copied in part is not asked with.
const CHECK: usize = 4;

/// A token. As text, base64 (URL-safe) after [`START`]: id, secret, port (`u16`, big-endian), address (4 or 16 octets),
/// and the first octets of the BLAKE2b-256 checksum of all that.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) id: [u8; ID],
    pub(super) secret: Zeroizing<[u8; SECRET]>,
    pub(super) address: SocketAddr,
}

impl Token {
    /// A new one, to be asked with at `address`.
    ///
    /// # Errors
    /// [`ClusterError::Random`].
    pub(super) fn make(address: SocketAddr) -> Result<Self, ClusterError> {
        Ok(Self { id: random::octets()?, secret: Zeroizing::new(random::octets()?), address })
    }

    /// Where to ask.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text, which is a secret.
    pub fn expose(&self) -> Zeroizing<String> {
        let port = self.address.port().to_be_bytes();
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut octets = Zeroizing::new([&self.id[..], &self.secret[..], &port, &ip].concat());
        let sum = checksum(&octets);
        octets.extend(&sum[..CHECK]);
        Zeroizing::new(format!("{START}{}", URL_SAFE_NO_PAD.encode(&*octets)))
    }
}

impl FromStr for Token {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        parse(text.trim()).ok_or(ClusterError::Token)
    }
}

/// Its secret is shown nowhere.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, ***)", self.address)
    }
}

fn parse(text: &str) -> Option<Token> {
    let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(START)?).ok()?);
    let (told, sum) = octets.split_at_checked(octets.len().checked_sub(CHECK)?)?;
    if !checksum(told).starts_with(sum) {
        return None;
    }
    let (id, rest) = told.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    let (port, ip) = rest.split_first_chunk()?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        _ => <[u8; 16]>::try_from(ip).ok()?.into(),
    };
    let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
    Some(Token { id: *id, secret: Zeroizing::new(*secret), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_no_part_or_other_of_it_does() {
        for address in ["10.0.0.1:51821", "[2001:db8::1]:7"] {
            let token = Token::make(address.parse().unwrap()).unwrap();
            let text = token.expose();
            assert_eq!(text.parse::<Token>().unwrap(), token);
            assert_eq!(format!(" {}\n", *text).parse::<Token>().unwrap(), token);
            for end in 0..text.len() {
                assert!(text[..end].parse::<Token>().is_err(), "{end}");
            }
            let mut other = text.as_bytes().to_vec();
            other[20] = if other[20] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(other).unwrap().parse::<Token>().is_err());
            assert!(!format!("{token:?}").contains(&text[10..30]));
        }
    }
}
