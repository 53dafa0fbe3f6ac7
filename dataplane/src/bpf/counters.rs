use dataplane_ebpf::abi::{Counter, DropRecord, FlowKey, Identity, Reason};

use super::{BpfError, Maps};

/// What was dropped of one identity for one reason, over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropLine {
    /// Whose packets or sockets.
    pub identity: Identity,
    /// [`Reason`] as a number; see [`Self::reason`].
    pub number: u32,
    /// How many.
    pub packets: u64,
    /// `CLOCK_MONOTONIC` of the last one, in nanoseconds.
    pub last_seen: u64,
    /// Tuple of the last one, as far as it could be read.
    pub tuple: FlowKey,
}

impl DropLine {
    /// The reason; `None` for one that this version does not know.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_number(self.number)
    }
}

/// Every drop that was counted, the most recent one first.
///
/// # Errors
/// [`BpfError::Map`].
pub fn drops(maps: &Maps) -> Result<Vec<DropLine>, BpfError> {
    let mut lines: Vec<_> = maps
        .drops
        .entries()?
        .into_iter()
        .filter_map(|(key, records)| {
            let last = records.iter().max_by_key(|record| record.last_seen)?;
            let packets = records.iter().map(|record| record.packets).sum();
            let DropRecord { last_seen, tuple, .. } = *last;
            Some(DropLine { identity: key.identity, number: key.reason, packets, last_seen, tuple })
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.last_seen));
    Ok(lines)
}

/// What every identity sent, received, connected and asked, over all CPUs.
///
/// # Errors
/// [`BpfError::Map`].
pub fn counters(maps: &Maps) -> Result<Vec<(Identity, Counter)>, BpfError> {
    let entries = maps.counters.entries()?;
    Ok(entries
        .into_iter()
        .map(|(identity, values)| (identity, values.into_iter().fold(Counter::default(), add)))
        .collect())
}

fn add(a: Counter, b: Counter) -> Counter {
    Counter {
        sent_packets: a.sent_packets + b.sent_packets,
        sent_bytes: a.sent_bytes + b.sent_bytes,
        received_packets: a.received_packets + b.received_packets,
        received_bytes: a.received_bytes + b.received_bytes,
        connects: a.connects + b.connects,
        dns_answers: a.dns_answers + b.dns_answers,
        #[cfg(feature = "next-abi")]
        next: a.next + b.next,
    }
}
