//! Asking who answers: many probes at a time from one network namespace, by ordinary sockets.
//!
//! A [`Responder`] in each namespace says who it is; [`probe`] finds out what became of each question, and
//! [`ask`] what a name means there.

mod ask;
mod flight;
mod responder;

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollTimeout, poll};

use crate::netns::Namespace;

pub use ask::{Answer, ask};
pub use responder::Responder;

use flight::Flight;

/// The port of every [`Responder`], TCP and UDP.
pub const PORT: u16 = 7000;

/// How long a probe may stay unanswered when nothing else says that it is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the caller is asked whether what is still open is lost, in milliseconds.
const INTERVAL: u8 = 5;

/// By what a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram from an unconnected socket; the answer must come from where the question went.
    Udp,
    /// A datagram from a connected socket.
    ConnectedUdp,
    /// An echo request from a raw socket.
    Icmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::ConnectedUdp, Self::Icmp];
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer came; from a [`Responder`] with its name, to an echo request without.
    Answered(Option<String>),
    /// `EPERM` at once.
    Denied,
    /// `ECONNREFUSED`.
    Refused,
    /// Nothing came.
    Silent,
    /// `ENOBUFS` at once: the sender's own kernel says that the packet was dropped on its way out of this device,
    /// where a full queue drops, or a tc program. Which one, only who dropped it can tell.
    Discarded,
    /// Something else.
    Failed(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(Some(by)) => write!(f, "answered by {by}"),
            Self::Answered(None) => f.pad("answered"),
            Self::Denied => f.pad("EPERM"),
            Self::Refused => f.pad("ECONNREFUSED"),
            Self::Silent => f.pad("nothing came"),
            Self::Discarded => f.pad("ENOBUFS"),
            Self::Failed(what) => f.pad(what),
        }
    }
}

impl From<io::Error> for Outcome {
    fn from(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::PermissionDenied, _) => Self::Denied,
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused,
            (_, Some(libc::ENOBUFS)) => Self::Discarded,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Sends all probes at once from the calling thread's namespace and waits until each has an outcome.
///
/// `blocked` is asked again and again whether so many probes, those that ended at once and those still open, are known
/// to be blocked (because somebody has counted them); without that, silence is five seconds long.
///
/// # Errors
/// When waiting itself fails; a probe's own failure is its outcome.
pub fn probe(probes: &[(Protocol, IpAddr)], blocked: impl Fn(usize) -> bool) -> io::Result<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::Silent; probes.len()];
    let mut open = Vec::new();
    for (index, (protocol, to)) in probes.iter().enumerate() {
        let sequence = u16::try_from(index).map_err(io::Error::other)?;
        match Flight::start(*protocol, *to, sequence) {
            Ok(flight) => open.push((index, flight)),
            Err(error) => outcomes[index] = error.into(),
        }
    }
    let end = Instant::now() + PATIENCE;
    while !open.is_empty() && Instant::now() < end {
        let mut polled: Vec<_> = open.iter().map(|(_, flight)| PollFd::new(flight.as_fd(), flight.awaits())).collect();
        if poll(&mut polled, PollTimeout::from(INTERVAL))? == 0 {
            let at_once = |outcome: &&Outcome| matches!(outcome, Outcome::Denied | Outcome::Discarded);
            if blocked(outcomes.iter().filter(at_once).count() + open.len()) {
                break;
            }
        }
        let ready: Vec<_> = polled.iter().map(|polled| polled.any().unwrap_or(true)).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|(index, flight)| match ready.next().unwrap_or(true).then(|| flight.advance()) {
            Some(Ok(Some(by))) => {
                outcomes[*index] = Outcome::Answered(by);
                false
            }
            Some(Err(error)) => {
                outcomes[*index] = error.into();
                false
            }
            Some(Ok(None)) | None => true,
        });
    }
    Ok(outcomes)
}

/// Asks an address by every protocol, from a namespace; over as soon as `dropped`, how many packets and sockets have
/// been dropped so far, whoever's and whyever, has risen by as many as are open.
///
/// # Errors
/// Those of [`probe`] and of `dropped`.
pub fn by_all(
    from: &Namespace,
    to: IpAddr,
    dropped: impl Fn() -> Result<u64> + Sync,
) -> Result<Vec<(Protocol, Outcome)>> {
    let before = dropped()?;
    let enough = |probes: usize| dropped().is_ok_and(|now| now >= before + probes as u64);
    let outcomes = from.enter(|| Ok(probe(&Protocol::ALL.map(|protocol| (protocol, to)), enough)?))?;
    Ok(Protocol::ALL.into_iter().zip(outcomes).collect())
}
