//! What a restart finds in the kernel it leaves alone; what another build left it replaces in place; what is gone it
//! says so. The oracles are link and program ids, and `tc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{SchedClassifier, TcAttachType};
use dataplane::bpf::{
    Attached, BackendAddress, Generations, MapSizes, Maps, Pins, Programs, ServiceVips, SocketHook, find_cgroup2_root,
};
use dataplane_ebpf::abi::{Addr, ServiceKey};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;
use tests::tun::Tun;

const SIZES: MapSizes = MapSizes { local: 64, endpoints: 64, services: 64, rules: 64, flows: 64 };

struct Place {
    cgroup: Cgroup,
    pins: Pins,
    _bpffs: Bpffs,
}

impl Place {
    fn new() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        // A directory of the bpffs, as the daemon has it.
        let pins = Pins::new(&bpffs.path().join("skep"));
        Ok(Self { cgroup: Cgroup::new(&find_cgroup2_root()?)?, pins, _bpffs: bpffs })
    }

    fn start(&self, sizes: &MapSizes) -> Result<(Programs, Maps)> {
        Ok(Programs::load_or_adopt(&self.pins, sizes, self.cgroup.path())?)
    }

    /// (link, program) of every link pin, by name.
    fn links(&self) -> Result<Vec<(String, u32, u32)>> {
        let mut links = fs::read_dir(self.pins.links())?
            .map(|entry| {
                let entry = entry?;
                let link = FdLink::from(PinnedLink::from_pin(entry.path())?).info()?;
                Ok((entry.file_name().to_string_lossy().into_owned(), link.id(), link.program_id()))
            })
            .collect::<Result<Vec<_>>>()?;
        links.sort();
        Ok(links)
    }

    /// Makes the pinned programs look like another build's.
    fn change_build(&self) -> Result<()> {
        let directory: PathBuf = fs::read_dir(self.pins.programs())?.next().context("no program pins")??.path();
        Ok(fs::rename(&directory, directory.with_file_name("another"))?)
    }
}

fn ifindex(name: &str) -> Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// How many tcx programs run on a device, both ways.
fn tcx_programs(device: &str) -> Result<usize> {
    let ways = [TcAttachType::Ingress, TcAttachType::Egress];
    ways.into_iter().map(|way| Ok(SchedClassifier::query_tcx(device, way)?.1.len())).sum()
}

/// What `tc` says of our filters on a device, both ways.
fn filters(netns: &Namespace, device: &str) -> Result<Vec<String>> {
    let ways = ["ingress", "egress"].map(|way| netns.run(&format!("tc filter show dev {device} {way}")));
    let shown = ways.into_iter().collect::<Result<Vec<_>>>()?;
    let lines = shown
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| ["_container", "from_wireguard"].iter().any(|name| line.contains(name)));
    Ok(lines.map(str::to_owned).collect())
}

#[test]
fn a_restart_adopts_and_another_build_is_replaced_in_place() -> Result<()> {
    let place = Place::new()?;
    let netns = Namespace::new()?;
    netns.run("ip link add skep1 type veth peer name peer1")?;
    netns.enter(|| {
        let device = ifindex("skep1")?;
        let up = |expected: bool, sizes: &MapSizes| -> Result<()> {
            let (programs, _maps) = place.start(sizes)?;
            assert_eq!(programs.adopted(), expected);
            programs.attach_sockets()?;
            programs.attach(device, "skep1")?;
            assert_eq!(programs.missing_sockets()?, []);
            assert_eq!(programs.attached()?, [(device, Attached::Current)].into());
            Ok(())
        };
        up(false, &SIZES)?;
        let first = place.links()?;
        assert_eq!(first.len(), SocketHook::ALL.len() + 2);
        up(true, &SIZES)?;
        assert_eq!(place.links()?, first, "a restart replaces nothing");

        for (what, sizes) in [("another build", SIZES), ("another size", MapSizes { flows: 128, ..SIZES })] {
            let before = place.links()?;
            if sizes == SIZES {
                place.change_build()?;
            }
            let (programs, _maps) = place.start(&sizes)?;
            assert_eq!(place.links()?, before, "{what}: nothing is replaced before the maps are filled");
            assert_eq!(programs.missing_sockets()?.len(), SocketHook::ALL.len());
            assert_eq!(programs.attached()?, [(device, Attached::Partly)].into());
            up(true, &sizes)?;
            let after = place.links()?;
            for (old, new) in before.iter().zip(&after) {
                assert_eq!((&old.0, old.1), (&new.0, new.1), "{what}: the links stay");
                assert_ne!(old.2, new.2, "{what}: {} runs another program", old.0);
            }
        }
        Ok(())
    })
}

#[test]
fn a_device_that_is_gone_is_said_to_be_and_uninstall_leaves_nothing() -> Result<()> {
    for tcx in [true, false] {
        let place = Place::new()?;
        let netns = Namespace::new()?;
        netns.run("ip link add skep1 type veth peer name peer1")?;
        netns.run("ip link add skep2 type veth peer name peer2")?;
        netns.enter(|| {
            let start = if tcx { Programs::load_or_adopt } else { Programs::load_or_adopt_without_tcx };
            let (programs, _maps) = start(&place.pins, &SIZES, place.cgroup.path())?;
            let (one, two) = (ifindex("skep1")?, ifindex("skep2")?);
            programs.attach(one, "skep1")?;
            programs.attach(two, "skep2")?;
            let programs_of =
                |device: &str| if tcx { tcx_programs(device) } else { Ok(filters(&netns, device)?.len()) };
            assert_eq!((programs_of("skep1")?, programs_of("skep2")?), (2, 2), "tcx: {tcx}");
            netns.run("ip link del skep1")?;
            assert_eq!(programs.attached()?, [(one, Attached::Gone), (two, Attached::Current)].into(), "tcx: {tcx}");
            programs.detach(one, "skep1")?;
            assert_eq!(programs.attached()?, [(two, Attached::Current)].into(), "tcx: {tcx}");
            let error = programs.attach(one, "skep1").expect_err("the device is gone").to_string();
            assert!(error.contains("skep1"), "{error}");

            programs.attach_sockets()?;
            Programs::remove_all(&place.pins).map_err(|failures| anyhow::anyhow!("{failures:?}"))?;
            assert_eq!(programs_of("skep2")?, 0, "tcx: {tcx}");
            assert!(!place.pins.root().exists());
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_program_of_a_tunnel_is_kept_like_those_of_veths_and_apart_from_them() -> Result<()> {
    for tcx in [true, false] {
        let place = Place::new()?;
        let netns = Namespace::new()?;
        netns.enter(|| {
            let start = || {
                let start = if tcx { Programs::load_or_adopt } else { Programs::load_or_adopt_without_tcx };
                start(&place.pins, &SIZES, place.cgroup.path())
            };
            let running = || match tcx {
                true => tcx_programs("tun0"),
                false => Ok(filters(&netns, "tun0")?.len()),
            };
            let tunnel = Tun::new("tun0", 60, 1_420)?;
            let (programs, _maps) = start()?;
            programs.attach_tunnel(60)?;
            assert_eq!((programs.tunnels()?, programs.attached()?), ([(60, Attached::Current)].into(), [].into()));
            place.change_build()?;
            let (programs, _maps) = start()?;
            assert_eq!(programs.tunnels()?, [(60, Attached::Partly)].into(), "tcx: {tcx}");
            programs.attach_tunnel(60)?;
            assert_eq!((programs.tunnels()?, running()?), ([(60, Attached::Current)].into(), 1), "tcx: {tcx}");
            drop(tunnel);
            assert_eq!(programs.tunnels()?, [(60, Attached::Gone)].into(), "tcx: {tcx}");
            programs.detach_tunnel(60)?;
            assert_eq!(programs.tunnels()?, [].into(), "tcx: {tcx}");
            assert!(programs.attach_tunnel(60).is_err(), "the device is gone");

            let _tunnel = Tun::new("tun0", 61, 1_420)?;
            programs.attach_tunnel(61)?;
            Programs::remove_all(&place.pins).map_err(|failures| anyhow::anyhow!("{failures:?}"))?;
            assert_eq!(running()?, 0, "tcx: {tcx}");
            assert!(!place.pins.root().exists());
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn programs_that_somebody_takes_off_a_device_are_missed_and_put_back() -> Result<()> {
    let cases: [(bool, &[&str]); 2] = [
        (true, &["bpftool link detach pinned LINKS/from_container-INDEX", "rm LINKS/to_container-INDEX"]),
        (false, &["tc filter del dev skep1 ingress", "tc qdisc del dev skep1 clsact", "rm LINKS/to_container-INDEX"]),
    ];
    for (tcx, damages) in cases {
        let place = Place::new()?;
        let netns = Namespace::new()?;
        netns.run("ip link add skep1 type veth peer name peer1")?;
        netns.enter(|| {
            let start = if tcx { Programs::load_or_adopt } else { Programs::load_or_adopt_without_tcx };
            let (programs, _maps) = start(&place.pins, &SIZES, place.cgroup.path())?;
            let device = ifindex("skep1")?;
            programs.attach(device, "skep1")?;
            let links = place.pins.links();
            for damage in damages {
                netns.run(&damage.replace("LINKS", &links.to_string_lossy()).replace("INDEX", &device.to_string()))?;
                let missing = programs.missing_pins()?;
                assert!(!missing.is_empty() || programs.attached()? == [(device, Attached::Partly)].into(), "{damage}");
                missing.iter().try_for_each(|pin| programs.restore_pin(pin))?;
                programs.attach(device, "skep1")?;
                assert_eq!(programs.attached()?, [(device, Attached::Current)].into(), "{damage}");
                assert!(programs.missing_pins()?.is_empty(), "{damage}");
                let running = if tcx { tcx_programs("skep1")? } else { filters(&netns, "skep1")?.len() };
                assert_eq!(running, 2, "{damage}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn clsact_filters_are_adopted_and_replaced_in_place() -> Result<()> {
    let place = Place::new()?;
    let netns = Namespace::new()?;
    netns.run("ip link add skep1 type veth peer name peer1")?;
    netns.enter(|| {
        let device = ifindex("skep1")?;
        let filters = || filters(&netns, "skep1");
        let start = || Programs::load_or_adopt_without_tcx(&place.pins, &SIZES, place.cgroup.path());
        start()?.0.attach(device, "skep1")?;
        let first = filters()?;
        assert_eq!(first.len(), 2, "{first:?}");
        let (programs, _maps) = start()?;
        programs.attach(device, "skep1")?;
        assert_eq!(filters()?, first, "a restart replaces nothing");
        place.change_build()?;
        let (programs, _maps) = start()?;
        assert_eq!(programs.attached()?, [(device, Attached::Partly)].into());
        assert_eq!(filters()?, first);
        programs.attach(device, "skep1")?;
        assert_eq!(programs.attached()?, [(device, Attached::Current)].into());
        let second = filters()?;
        assert_eq!(second.len(), 2, "{second:?}");
        assert!(first.iter().all(|line| !second.contains(line)), "other programs: {second:?}");
        Ok(())
    })
}

#[test]
fn a_link_to_another_cgroup_is_made_anew() -> Result<()> {
    let place = Place::new()?;
    place.start(&SIZES)?.0.attach_sockets()?;
    let before = place.links()?;
    let other = Cgroup::new(&find_cgroup2_root()?)?;
    let (programs, _maps) = Programs::load_or_adopt(&place.pins, &SIZES, other.path())?;
    assert!(programs.adopted());
    assert_eq!(programs.missing_sockets()?.len(), SocketHook::ALL.len());
    programs.attach_sockets()?;
    assert!(place.links()?.iter().zip(&before).all(|(new, old)| new.1 != old.1 && new.2 == old.2));
    Ok(())
}

#[test]
fn reading_takes_no_right_to_write_and_an_empty_place_is_said_to_be_empty() -> Result<()> {
    let place = Place::new()?;
    let error = Maps::open(&place.pins).expect_err("nothing is pinned").to_string();
    assert!(error.contains("/skep/v") && error.contains("start skepd"), "{error}");
    let (_programs, maps) = place.start(&SIZES)?;
    let reader = Maps::open_read_only(&place.pins)?;
    let key = ServiceKey { env: 1, vip: Addr::NONE };
    maps.services.put(&key, Default::default())?;
    assert!(reader.services.get(&key)?.is_some());
    assert_eq!((reader.services.usage()?, reader.services.capacity()), (1, 128));
    reader.services.delete(&key).expect_err("it is open for reading only");
    Ok(())
}

#[test]
fn a_set_is_switched_at_once_and_outlives_its_successor_by_ten_seconds() -> Result<()> {
    let place = Place::new()?;
    let (_programs, maps) = place.start(&SIZES)?;
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let vips: Vec<Addr> =
        vec!["10.224.0.9".parse::<std::net::IpAddr>()?.into(), "fd53::9".parse::<std::net::IpAddr>()?.into()];
    let service = ServiceVips { env: 1, service: 5, vips: vips.clone(), networks: 1, flags: 0 };
    let backends = |hosts: &[u8]| -> Vec<BackendAddress> {
        let address = |host: &u8| std::net::Ipv4Addr::new(10, 208, 0, *host).into();
        hosts
            .iter()
            .map(|host| BackendAddress { address4: address(host), address6: Addr::NONE, node: 1, local: true })
            .collect()
    };
    let mut generations = Generations::adopt(&maps, start)?;
    assert!(generations.switch(&maps, &service, &backends(&[1, 2]), start)?);
    assert!(!generations.switch(&maps, &service, &backends(&[2, 1]), start)?, "the same set");
    assert!(generations.switch(&maps, &service, &backends(&[2, 3, 4]), start)?);
    assert_eq!(maps.backends.usage()?, 5);
    let words = |maps: &Maps| -> Result<Vec<u64>> {
        Ok(maps.services.entries()?.into_iter().map(|(_, value)| value.backends).collect())
    };
    assert_eq!(words(&maps)?.len(), 2);
    assert_eq!(words(&maps)?[0], words(&maps)?[1], "both families have the same set");

    assert_eq!(generations.prune(&maps, after(9))?, 0);
    assert_eq!(generations.next_due(), Some(after(10)));
    assert_eq!(generations.prune(&maps, after(10))?, 2);
    assert_eq!((maps.backends.usage()?, generations.next_due()), (3, None));

    // A skepd that ends in between leaves a set that nobody refers to.
    assert!(generations.switch(&maps, &service, &backends(&[]), after(20))?);
    let mut generations = Generations::adopt(&maps, after(21))?;
    assert!(!generations.switch(&maps, &service, &backends(&[]), after(21))?);
    assert_eq!(generations.prune(&maps, after(30))?, 0);
    assert_eq!(generations.prune(&maps, after(31))?, 3);

    assert!(generations.switch(&maps, &service, &backends(&[1]), after(40))?);
    for vip in vips {
        generations.remove(&maps, &ServiceKey { env: 1, vip }, after(50))?;
    }
    assert_eq!((maps.services.usage()?, maps.backends.usage()?), (0, 1));
    assert_eq!(generations.prune(&maps, after(60))?, 1);
    Ok(())
}

#[test]
fn a_set_that_does_not_fit_leaves_the_one_before() -> Result<()> {
    let place = Place::new()?;
    let (_programs, maps) = place.start(&MapSizes { endpoints: 8, ..SIZES })?;
    let service = ServiceVips { env: 1, service: 5, vips: vec![Addr::NONE], networks: 1, flags: 0 };
    let many: Vec<_> =
        (0..64).map(|node| BackendAddress { address4: Addr::NONE, address6: Addr::NONE, node, local: false }).collect();
    let mut generations = Generations::adopt(&maps, Instant::now())?;
    generations.switch(&maps, &service, &many[..2], Instant::now())?;
    let before = (maps.services.entries()?, maps.backends.usage()?);
    let error = generations.switch(&maps, &service, &many, Instant::now()).expect_err("it does not fit").to_string();
    assert!(error.contains("BACKENDS") && error.contains("full"), "{error}");
    assert_eq!((maps.services.entries()?, maps.backends.usage()?), before);
    Ok(())
}

#[test]
fn the_cgroup_root_is_found() -> Result<()> {
    assert!(Path::new(&find_cgroup2_root()?).join("cgroup.procs").exists());
    Ok(())
}
