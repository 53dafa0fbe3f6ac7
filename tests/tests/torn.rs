//! A torn read never happens: while one core replaces backend sets and recycles map elements as fast as it can, the
//! other connects, and never gets another service's backend, nor one of a set of long ago.
//!
//! `SKEP_TORN_READS` is how many connects are made (2 million by default, 10 million with `--long`). Each reads NETNS,
//! SERVICES and BACKENDS.

#[path = "sockets/world.rs"]
#[expect(dead_code, reason = "tests/sockets.rs uses the rest")]
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{BackendAddress, Generations, Maps, SocketHook};
use dataplane_ebpf::abi::{Addr, Backend, BackendKey, Backends, Sealed as _, Service, ServiceKey, flags};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use world::{CALLER, Family, NETWORKS, PORT, World};

/// Services of the caller's environment; few, so that each is often in the middle of a change.
const SERVICES: u8 = 8;
/// Environments whose services have the same VIPs and come and go.
const OTHERS: u32 = 16;
/// The writer's clock goes this much further with each switch: a set lives for 10 s, thus for 1,000 switches.
const TICK: Duration = Duration::from_millis(10);
/// Switches between two prunings.
const PRUNE: u32 = 64;

/// A backend's address says whose it is and of which switch: 10.208.0.0/12 with 4 bits of service, 14 of the switch,
/// 2 of the slot.
fn address(service: u8, switch: u32, slot: u32) -> Ipv4Addr {
    let host = u32::from(service) << 16 | (switch & 0x3fff) << 2 | slot;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 208, 0, 0)) | host)
}

/// Whether `found` is a backend of `service`, of a set that was in force at some time between the switches `before`
/// and `after` (which the writer counts when they are done).
fn is_right(found: Ipv4Addr, service: u8, before: u32, after: u32) -> bool {
    let host = u32::from(found) & 0x000f_ffff;
    // A service has its turn every SERVICES switches. Modulo 2^14, hence never counted below zero.
    let age = (after + 1).wrapping_sub(host >> 2) & 0x3fff;
    let young = after - before > 0x2000 || age <= after + 1 - before + u32::from(SERVICES);
    u32::from(found) & 0xfff0_0000 == u32::from(Ipv4Addr::new(10, 208, 0, 0))
        && host >> 16 == u32::from(service)
        && young
}

/// What writer and reader know of each other.
#[derive(Default)]
struct Progress {
    switches: AtomicU32,
    ended: AtomicBool,
}

struct Writer<'a> {
    maps: &'a Maps,
    generations: Generations,
    start: Instant,
    progress: &'a Progress,
}

impl Writer<'_> {
    /// Switch `n`: one service gets a new set, and services of other environments come and go.
    fn switch(&mut self, n: u32) -> Result<()> {
        let now = self.start + TICK * n;
        let service = (n % u32::from(SERVICES)) as u8;
        let count = n / u32::from(SERVICES) % 3 + 1;
        let backends: Vec<_> = (0..count)
            .map(|slot| BackendAddress {
                address4: address(service, n, slot).into(),
                address6: Addr::NONE,
                node: 1,
                local: slot == 0 && n.is_multiple_of(5),
            })
            .collect();
        self.generations.switch(self.maps, &world::service(service, NETWORKS), &backends, now)?;
        self.progress.switches.store(n, Relaxed);
        self.recycle(n)?;
        self.refresh()?;
        if n.is_multiple_of(PRUNE) {
            self.generations.prune(self.maps, now)?;
        }
        Ok(())
    }

    /// Elements that are freed here are what the next entry is written to. In one system call each, so that not
    /// even a reader that is held up by a cache miss alone is safe.
    fn recycle(&self, n: u32) -> Result<()> {
        let env = 100 + n % OTHERS;
        let set = Backends { generation: n, count: 1, local: 0 };
        let other = Service { backends: set.word(), networks: NETWORKS, service: env, flags: 0, seal: 0 };
        let service_key = |host| ServiceKey { env, vip: Family::V4.vip(host).into() };
        let backend_key = |slot| BackendKey { service: env, generation: n, slot };
        let target = Backend { address4: Addr::from(Ipv4Addr::new(11, 0, 0, 1)).v4_word(), ..Backend::default() };
        for _ in 0..4 {
            self.maps.services.put_all((0..SERVICES).map(|host| (service_key(host), other)))?;
            self.maps.backends.put_all((0..u32::from(SERVICES)).map(|slot| (backend_key(slot), target)))?;
        }
        for host in 0..SERVICES {
            self.maps.services.delete(&service_key(host))?;
            self.maps.backends.delete(&backend_key(host.into()))?;
        }
        Ok(())
    }

    /// Writes the caller's own services again and again, as they are.
    fn refresh(&self) -> Result<()> {
        let keys = (0..SERVICES).map(|host| ServiceKey { env: CALLER.env, vip: Family::V4.vip(host).into() });
        let present = keys.map(|key| Ok((key, self.maps.services.get(&key)?))).collect::<Result<Vec<_>>>()?;
        let present: Vec<_> = present.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Ok(self.maps.services.put_all(present.iter().copied().cycle().take(256))?)
    }
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    // On a machine with one CPU they share it: preemption interleaves them as well.
    sched_setaffinity(Pid::from_raw(0), &set).or_else(|error| if cpu == 0 { Err(error) } else { Ok(()) })?;
    Ok(())
}

/// Runs `read` on one core while the other one writes; returns what it returns, and how many switches there were.
fn while_switching<T: Send>(
    world: &mut World,
    read: impl FnOnce(&World, &Progress) -> Result<T> + Send,
) -> Result<(T, u32)> {
    let progress = Progress::default();
    let generations = std::mem::take(&mut world.generations);
    let world = &*world;
    let mut writer = Writer { maps: &world.maps, generations, start: Instant::now(), progress: &progress };
    for n in 1..=u32::from(SERVICES) {
        writer.switch(n)?;
    }
    let write = || -> Result<()> {
        pin_to(1)?;
        (u32::from(SERVICES) + 1..).take_while(|_| !progress.ended.load(Relaxed)).try_for_each(|n| writer.switch(n))
    };
    // Whoever ends, for whatever reason, ends the other.
    let ending = |work: &mut (dyn FnMut() -> Result<()> + Send)| {
        let result = work();
        progress.ended.store(true, Relaxed);
        result
    };
    let mut result = None;
    let (mut write, mut read) = (write, Some(read));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| ending(&mut write));
        let reading = scope.spawn(|| {
            ending(&mut || {
                pin_to(0)?;
                result = read.take().map(|read| read(world, &progress)).transpose()?;
                Ok(())
            })
        });
        for thread in [writing, reading] {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok((result.context("the reader did not run")?, progress.switches.into_inner()))
}

/// A world in which only `connect4` runs: nothing hides the backend from getpeername.
fn world() -> Result<World> {
    let world = World::unattached()?;
    world.tell_who_calls(flags::EGRESS)?;
    world.maps.set_node(&world::node())?;
    world.programs.attach_socket(SocketHook::Connect4)?;
    Ok(world)
}

#[derive(Default, Debug)]
struct Tally {
    connects: u64,
    refused: u64,
    length: Duration,
}

fn connect_again_and_again(world: &World, progress: &Progress, connects: u64) -> Result<Tally> {
    // The programs go by the socket's namespace and cgroup, not by the thread's.
    let socket = world.as_caller(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    let start = Instant::now();
    let mut tally = Tally::default();
    for n in 0..connects {
        ensure!(!progress.ended.load(Relaxed), "the writer ended");
        let service = (n % u64::from(SERVICES)) as u8;
        let vip = SocketAddr::from((Family::V4.vip(service), PORT));
        tally.connects += 1;
        let before = progress.switches.load(Relaxed);
        match socket.connect(vip) {
            Ok(()) => {
                let IpAddr::V4(found) = socket.peer_addr()?.ip() else { unreachable!("an IPv4 socket") };
                let after = progress.switches.load(Relaxed);
                ensure!(
                    is_right(found, service, before, after),
                    "connect {n} to service {service} reached {found} between switches {before} and {after}"
                );
            }
            // Four bad seals in a row: closed, and counted as torn-read.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => tally.refused += 1,
            Err(error) => return Err(error).with_context(|| format!("connect {n} to service {service}")),
        }
    }
    tally.length = start.elapsed();
    Ok(tally)
}

#[test]
fn no_connect_ever_reaches_another_services_backend() -> Result<()> {
    let connects = match std::env::var("SKEP_TORN_READS") {
        Ok(number) => number.parse().context("SKEP_TORN_READS")?,
        Err(_) if std::env::var_os("SKEP_LONG").is_some() => 10_000_000,
        Err(_) => 2_000_000,
    };
    let mut world = world()?;
    let (tally, switches) =
        while_switching(&mut world, |world, progress| connect_again_and_again(world, progress, connects))?;
    println!("{tally:?}, {switches} switches");
    for line in dataplane::bpf::drops(&world.maps)? {
        println!("{} {:?} {:?}", line.packets, line.reason(), line.tuple);
    }
    ensure!(switches > 1_000, "the writer hardly ran: {switches} switches");
    ensure!(
        tally.refused * 100_000 <= tally.connects,
        "{} of {} connects did not settle",
        tally.refused,
        tally.connects
    );
    Ok(())
}

#[test]
fn a_reader_that_does_not_check_the_seal_would_see_torn_entries() -> Result<()> {
    /// Far more than it takes.
    const READS: u64 = 50_000_000;
    let world = world()?;
    let services = &world.maps.services;
    let entry = |service: u32| {
        let key = ServiceKey { env: CALLER.env, vip: Family::V4.vip(service as u8).into() };
        (key, Service { backends: u64::from(service), networks: NETWORKS, service, flags: 0, seal: 0 })
    };
    let entries = [entry(1), entry(2)];
    services.put_all(entries)?;
    let ended = AtomicBool::new(false);
    let (torn, reads) = std::thread::scope(|scope| {
        // An element that is freed for one key is at once written for the other.
        let writing = scope.spawn(|| {
            pin_to(1)?;
            while !ended.load(Relaxed) {
                services.put_all(entries.into_iter().cycle().take(512))?;
            }
            anyhow::Ok(())
        });
        let read = || -> Result<(u64, u64)> {
            pin_to(0)?;
            let (mut torn, mut reads) = (0, 0);
            while torn < 3 && reads < READS && !writing.is_finished() {
                for (key, _) in &entries {
                    reads += 1;
                    torn += u64::from(services.get(key)?.is_some_and(|value| !value.is_sealed_for(key)));
                }
            }
            Ok((torn, reads))
        };
        let result = read();
        ended.store(true, Relaxed);
        result
    })?;
    println!("{torn} of {reads} unchecked reads were torn or another service's");
    ensure!(torn > 0, "the test cannot fail: {reads} unchecked reads, none torn");
    Ok(())
}
