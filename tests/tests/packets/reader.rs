//! Packets taken apart by code that shares nothing with the programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};

use crate::octets::{half, sum, swapped, verifies};
use crate::world::{A, B, C, D, HIDDEN4, OLD4, OUTSIDE6, REMOTES, REPLICAS, Replica, VIP4, VIP6, wire_name};

/// Checks that an echo request was turned round: addresses swapped, type and checksum changed, nothing else.
pub(crate) fn check_echo(request: &[u8], reply: &[u8]) -> Result<()> {
    ensure!(swapped(request, reply, 0..6, 6..12), "MACs");
    let v6 = request[12..14] == [0x86, 0xdd];
    let (first, second, kinds) = if v6 { (22..38, 38..54, (128, 129)) } else { (26..30, 30..34, (8, 0)) };
    ensure!(swapped(request, reply, first.clone(), second.clone()), "addresses");
    let at = (second.end..request.len()).find(|at| request[*at] != reply[*at]).context("nothing changed")?;
    ensure!((request[at], reply[at]) == kinds, "the type is not a reply's");
    ensure!(request[12..first.start] == reply[12..first.start] && request[at + 4..] == reply[at + 4..], "payload");
    let end = 14 + if v6 { 40 + usize::from(half(request, 18)?) } else { usize::from(half(request, 16)?) };
    let pseudo = |packet: &[u8]| if v6 { sum(&packet[22..54]) + 58 + (end - at) as u32 } else { 0 };
    if verifies(&request[at..end], pseudo(request)) {
        ensure!(verifies(&reply[at..end], pseudo(reply)), "a right checksum was made a wrong one");
    }
    Ok(())
}

/// Checks that a question was answered: headers turned round with right lengths and checksums, the question as it
/// came, every record whole, and nothing said that the asker may not know.
pub(crate) fn check_answer(question: &[u8], answer: &[u8]) -> Result<()> {
    ensure!(swapped(question, answer, 0..6, 6..12), "MACs");
    ensure!(question[12..14] == answer[12..14] && answer[14] == 0x45, "IPv4 without options");
    ensure!(swapped(question, answer, 26..30, 30..34), "addresses");
    ensure!(usize::from(half(answer, 16)?) == answer.len() - 14, "total length");
    ensure!(verifies(&answer[14..34], 0), "header checksum");
    ensure!(swapped(question, answer, 34..36, 36..38), "ports");
    let datagram = &answer[34..];
    ensure!(usize::from(half(datagram, 4)?) == datagram.len(), "UDP length");
    ensure!(half(datagram, 6)? != 0, "no UDP checksum");
    ensure!(verifies(datagram, sum(&answer[26..34]) + 17 + datagram.len() as u32), "UDP checksum");
    let asker = Ipv4Addr::new(question[26], question[27], question[28], question[29]);
    check_message(&question[42..], &answer[42..], asker)
}

fn check_message(question: &[u8], answer: &[u8], asker: Ipv4Addr) -> Result<()> {
    ensure!(answer.len() <= 512, "longer than every client takes");
    ensure!(question[..2] == answer[..2], "identification");
    ensure!(half(answer, 2)? & 0xfa40 == 0x8000, "flags {:#x}", half(answer, 2)?);
    ensure!(half(answer, 4)? == 1, "one question");
    let (_, end) = name(answer, 12)?;
    let mut at = end + 4;
    ensure!(question[12..at] == answer[12..at], "the question as it came");
    for section in [6, 8, 10] {
        for _ in 0..half(answer, section)? {
            let (_, end) = name(answer, at)?;
            let data = end + 10..end + 10 + usize::from(half(answer, end + 8)?);
            let kind = half(answer, end)?;
            let octets = answer.get(data.clone()).context("a record cut short")?;
            match (section, kind) {
                (6, 1 | 28 | 12 | 33) => ensure!(may_know(asker, kind, octets), "{asker} is told {octets:?}"),
                (8, 6) | (10, 41) => {}
                _ => bail!("a record of type {kind} in the section at {section}"),
            }
            at = data.end;
        }
    }
    ensure!(at == answer.len(), "{} octets that belong to nothing", answer.len() - at);
    Ok(())
}

/// What the tables hold for the networks of each asker.
fn may_know(asker: Ipv4Addr, kind: u16, data: &[u8]) -> bool {
    let (first, second) = ([A.v4(), B.v4()].contains(&asker), [B.v4(), C.v4()].contains(&asker));
    let is = |text: &str| {
        let (wire, len) = wire_name(text);
        data == &wire[..len as usize]
    };
    match kind {
        1 => first && (data == VIP4.octets() || data == OLD4.octets()) || second && data == HIDDEN4.octets(),
        28 => first && data == VIP6.octets(),
        // Priority, weight, port, and the target as the client writes it.
        33 => data.split_at_checked(6).is_some_and(|(head, target)| {
            let lower =
                target.to_ascii_lowercase().iter().map(|o| if *o == b'_' { b'-' } else { *o }).collect::<Vec<_>>();
            let is = |text| lower == wire_name(text).0[..wire_name(text).1 as usize];
            let known = ["api", "api.internal", "my-api", "api.production.shop.internal", "old"].into_iter().any(is);
            head == [0, 0, 0, 0, 21, 56] && (first && known || second && is("hidden"))
        }),
        _ => {
            first && (is("api.production.shop.internal") || is("a.production.shop.internal"))
                || second && is("hidden.production.shop.internal")
        }
    }
}

/// The octets of the name at `at`, pointers followed, and where the octets after it begin.
fn name(message: &[u8], mut at: usize) -> Result<(Vec<u8>, usize)> {
    let (mut wire, mut end) = (Vec::new(), None);
    loop {
        let length = usize::from(*message.get(at).context("a name goes past the end")?);
        match length {
            0 => return Ok((wire, end.unwrap_or(at + 1))),
            1..=63 => {
                wire.extend(message.get(at..=at + length).context("a label goes past the end")?);
                at += 1 + length;
            }
            192.. => {
                end = end.or(Some(at + 2));
                let to = usize::from(half(message, at)? & 0x3fff);
                ensure!(to < at, "a pointer forward");
                at = to;
            }
            _ => bail!("length {length} in a name"),
        }
        ensure!(wire.len() < 255, "a name without an end");
    }
}

/// The addresses of a frame, IPv4 ones as they are mapped.
fn addresses(packet: &[u8]) -> Result<[IpAddr; 2]> {
    let four = |at: usize| Ok::<_, anyhow::Error>(Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4])?).into());
    let six = |at: usize| Ok::<_, anyhow::Error>(Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16])?).into());
    match packet[12..14] {
        [8, 0] => Ok([four(26)?, four(30)?]),
        [0x86, 0xdd] => Ok([six(22)?, six(38)?]),
        _ => bail!("an odd Ethernet type"),
    }
}

/// Whether a replica has the address.
fn has(replica: &Replica, address: IpAddr) -> bool {
    address == replica.v4() || address == replica.v6()
}

/// Checks what comes out of the tunnel as [`check_sender`] checks what replicas of this node send.
pub(crate) fn check_arrival(packet: &[u8], delivered: u32) -> Result<()> {
    let [source, destination] = addresses(packet)?;
    let sender = REMOTES.iter().find(|replica| has(replica, source)).context("a forged address passes")?;
    let receiver = REPLICAS.iter().find(|replica| replica.ifindex() == delivered).context("nobody")?;
    ensure!(has(receiver, destination), "delivered to another than its address says");
    let together = receiver.identity.env == sender.identity.env && receiver.networks & sender.networks != 0;
    ensure!(together, "{sender:?} reaches {receiver:?}");
    Ok(())
}

/// Checks what goes into the tunnel.
pub(crate) fn check_departure(sender: &Replica, packet: &[u8]) -> Result<()> {
    let [source, destination] = addresses(packet)?;
    ensure!(packet[6..12] == sender.mac() && has(sender, source), "a forged address passes");
    let receiver = REMOTES.iter().find(|replica| has(replica, destination)).context("nobody is there")?;
    let together = receiver.identity.env == sender.identity.env && receiver.networks & sender.networks != 0;
    ensure!(together, "{sender:?} reaches {receiver:?}");
    Ok(())
}

/// Checks what a program lets through against the rules in their plainest form: a packet from one environment never
/// reaches another's replica unless a grant is there, what leaves comes from somebody who may leave, and nobody has
/// another's addresses.
pub(crate) fn check_sender(replica: &Replica, packet: &[u8], delivered: Option<u32>) -> Result<()> {
    ensure!(packet[6..12] == replica.mac(), "a forged MAC passes");
    let (source, destination) = if packet[12..14] == [8, 0] {
        ensure!(packet[26..30] == replica.v4().octets(), "a forged IPv4 address passes");
        (4, packet[30..34].to_vec())
    } else {
        ensure!(packet[12..14] == [0x86, 0xdd], "an odd Ethernet type passes");
        ensure!(packet[22..38] == replica.v6().octets(), "a forged IPv6 address passes");
        (6, packet[38..54].to_vec())
    };
    let Some(ifindex) = delivered else {
        let dns = destination == crate::world::DNS.octets();
        ensure!(dns || replica.flags != 0, "{replica:?} leaves");
        ensure!(dns || destination[0] != 10 && destination[0] & 0xfe != 0xfc, "a pool address leaves");
        let listed = destination[0] == 11 || destination == OUTSIDE6.octets();
        ensure!(dns || listed || replica.host != D.host, "{replica:?} goes where it does not list");
        return Ok(());
    };
    let receiver = REPLICAS.iter().find(|receiver| receiver.ifindex() == ifindex).context("nobody")?;
    let own = if source == 4 { receiver.v4().octets().to_vec() } else { receiver.v6().octets().to_vec() };
    ensure!(own == destination, "delivered to another than its address says");
    let together = receiver.identity.env == replica.identity.env && receiver.networks & replica.networks != 0;
    let granted = [(A.host, 5), (5, A.host)].contains(&(replica.host, receiver.host));
    ensure!(together || granted, "{replica:?} reaches {receiver:?}");
    Ok(())
}
