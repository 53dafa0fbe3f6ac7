//! One measurement of a path.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::echo::Echo;

/// Octets of the packets whose time is taken.
const SMALL: u32 = 56;
/// How many of them; the one in the middle counts.
const ROUNDS: usize = 3;
/// Every path takes that many octets (RFC 8200, section 5), or what is larger is fragmented under way.
const MTU_MIN: u32 = 1_280;
/// What gets no answer that often does not fit; less often, and a network that loses packets would be taken for a narrow
/// one.
const TRIES: usize = 3;
/// How long an answer may take, the first ones and those after.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// There and back; [`None`]: there was no answer at all.
    pub(super) latency: Option<Duration>,
    /// Octets of the largest packet that was answered; [`None`]: no large one is, whatever the path would take.
    pub(super) mtu: Option<u32>,
}

/// Measures the path to an address; packets are no larger than `most` octets.
///
/// # Errors
/// No socket for that: no `CAP_NET_RAW`, or no address of that family.
pub(super) async fn measure(to: IpAddr, most: u32) -> io::Result<Measured> {
    let mut echo = Echo::open(to)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        times.extend(echo.ask(SMALL, PATIENCE).await);
    }
    times.sort_unstable();
    let Some(latency) = times.get(times.len() / 2).copied() else {
        return Ok(Measured { latency: None, mtu: None });
    };
    let patience = latency.saturating_mul(8).clamp(PATIENCE_MIN, PATIENCE);
    let mut search = Search::new(most);
    while let Some(size) = search.next() {
        let mut fits = false;
        for _ in 0..TRIES {
            fits = echo.ask(size, patience).await.is_some();
            if fits {
                break;
            }
        }
        search.learn(size, fits);
    }
    Ok(Measured { latency: Some(latency), mtu: search.found() })
}

/// The largest size that fits: the whole first, as it nearly always does; then whether any large one does; then halves.
#[derive(Debug, Clone, Copy)]
struct Search {
    most: u32,
    fits: Option<u32>,
    fails: Option<u32>,
}

impl Search {
    fn new(most: u32) -> Self {
        Self { most, fits: None, fails: None }
    }

    /// What to ask for next; [`None`]: all is known.
    fn next(&self) -> Option<u32> {
        match (self.fits, self.fails) {
            (None, None) => Some(self.most),
            // A firewall that takes small echo requests alone says nothing about the path.
            (None, Some(fails)) => (fails > MTU_MIN).then_some(MTU_MIN),
            (Some(_), None) => None,
            (Some(fits), Some(fails)) => (fails - fits > 1).then(|| fits.midpoint(fails)),
        }
    }

    fn learn(&mut self, size: u32, fits: bool) {
        *(if fits { &mut self.fits } else { &mut self.fails }) = Some(size);
    }

    fn found(&self) -> Option<u32> {
        self.fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over a path that takes that much; how often it was asked.
    fn found(most: u32, path: u32) -> (Option<u32>, u32) {
        let mut search = Search::new(most);
        let mut asked = 0;
        while let Some(size) = search.next() {
            asked += 1;
            assert!(asked < 64, "it does not end");
            search.learn(size, size <= path);
        }
        (search.found(), asked)
    }

    #[test]
    fn the_largest_size_that_fits_is_found_with_few_questions() {
        assert_eq!(found(1500, 1500), (Some(1500), 1));
        assert_eq!(found(1500, 9000), (Some(1500), 1), "no more than the uplinks take is of use");
        for path in 1280..1500 {
            let (size, asked) = found(1500, path);
            assert!(size == Some(path) && asked <= 10, "{path}: {size:?} after {asked}");
        }
        let (size, asked) = found(9000, 1450);
        assert!(size == Some(1450) && asked <= 15, "{asked}");
    }

    #[test]
    fn nothing_is_concluded_from_large_packets_that_nobody_answers() {
        assert_eq!(found(1500, 100), (None, 2));
        assert_eq!(found(1280, 100), (None, 1));
    }

    #[tokio::test]
    async fn this_very_host_answers() {
        // Where echo requests may not be sent there is nothing to be learned.
        for to in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1])] {
            match measure(to, 1_500).await {
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{to}"),
                Ok(found) => assert!(found.latency.is_some() && found.mtu == Some(1_500), "{to}: {found:?}"),
            }
        }
    }
}
