//! What each version of the ABI left, kept as it was, is taken over by the skepd of today.
//!
//! `tests/artefacts/v<N>/`: the layout of the maps (`abi/layout.txt` of then) and the eBPF object, without what is there
//! for debuggers (`llvm-objcopy --strip-debug --remove-section=.BTF.ext`) and compressed by `xz`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya::EbpfLoader;
use aya::maps::MapInfo;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{CgroupAttachMode, Program, TcAttachType};
use dataplane::bpf::{Attached, MapSizes, Pins, Programs, SocketHook, find_cgroup2_root};
use dataplane_ebpf::abi::{ABI_VERSION, changes, map};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;

const SIZES: MapSizes = MapSizes { local: 64, endpoints: 64, services: 64, rules: 64, flows: 64 };
const ARTEFACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/artefacts");
const DEVICE: &str = "skep1";

#[test]
fn the_layout_of_every_version_is_kept() -> Result<()> {
    for version in 1..=ABI_VERSION {
        let path = format!("{ARTEFACTS}/v{version}/layout.txt");
        let kept = fs::read_to_string(&path).with_context(|| path.clone())?;
        ensure!(kept.starts_with(&format!("version {version}\n")), "{path} is of another version");
        let today = include_str!("../../../dataplane-ebpf/src/abi/layout.txt");
        ensure!(
            version < ABI_VERSION || kept == today,
            "{path} is not what the ABI is: keep the one that was released"
        );
    }
    Ok(())
}

#[test]
fn what_every_version_left_is_taken_over() -> Result<()> {
    for version in 1..=ABI_VERSION {
        taken_over(version).with_context(|| format!("from version {version}"))?;
    }
    Ok(())
}

fn taken_over(version: u32) -> Result<()> {
    let cgroup = Cgroup::new(&find_cgroup2_root()?)?;
    let sizes = capacities(&cgroup)?;
    let bpffs = Bpffs::new()?;
    let pins = Pins::new(&bpffs.path().join("skep"));
    let theirs = pins.root().join(format!("v{version}"));
    let netns = Namespace::new()?;
    netns.run(&format!("ip link add {DEVICE} type veth peer name peer1"))?;
    netns.enter(|| {
        let device = nix::net::if_::if_nametoindex(DEVICE)?;
        leave(&object(version)?, &theirs, &sizes, cgroup.path(), device)?;
        let (maps, links) = (maps(&theirs, &sizes)?, links(&theirs)?);

        let (programs, _) = Programs::load_or_adopt(&pins, &SIZES, cgroup.path())?;
        // Of the same version this is the agent's to do, who looks first what is in the maps.
        programs.attach_sockets()?;
        programs.attach(device, DEVICE)?;
        programs.superseded()?.into_iter().try_for_each(|version| programs.retire(version))?;
        assert_eq!(programs.missing_sockets()?, []);
        assert_eq!(programs.attached()?, [(device, Attached::Current)].into());
        assert_eq!(pins.base() == theirs, theirs.exists(), "its pins stay as long as they are this version's");

        let now = self::maps(pins.base(), &sizes)?;
        assert_eq!(now.len(), sizes.len(), "maps lack");
        // A map may have come since then without a change of any other.
        for (name, id) in maps {
            let same = changes::since(&name) <= version;
            assert_eq!(now.get(&name) == Some(&id), same, "{name} is the same map: {same}");
        }
        assert!(changes::since(map::SOCKETS) == 1, "what sockets remember cannot be copied");
        for (name, (link, program)) in self::links(pins.base())? {
            let (old_link, old_program) = links.get(&name).with_context(|| name.clone())?;
            assert_eq!(link, *old_link, "{name} was made anew");
            assert_ne!(program, *old_program, "{name} runs the old program");
        }
        Ok(())
    })
}

/// The capacities that today's skepd wants, by map.
fn capacities(cgroup: &Cgroup) -> Result<BTreeMap<String, u32>> {
    let bpffs = Bpffs::new()?;
    let pins = Pins::new(&bpffs.path());
    Programs::load_or_adopt(&pins, &SIZES, cgroup.path())?;
    let entries = fs::read_dir(pins.base())?.collect::<Result<Vec<_>, _>>()?;
    let maps = entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    maps.map(|entry| Ok((entry.file_name().to_string_lossy().into_owned(), info(&entry.path())?.max_entries())))
        .collect()
}

fn info(pin: &Path) -> Result<MapInfo> {
    MapInfo::from_pin(pin).with_context(|| pin.display().to_string())
}

fn object(version: u32) -> Result<Vec<u8>> {
    let path = format!("{ARTEFACTS}/v{version}/skep.xz");
    let unpacked = Command::new("xz").args(["--decompress", "--stdout", &path]).output().context("xz")?;
    ensure!(unpacked.status.success(), "{path}: {}", String::from_utf8_lossy(&unpacked.stderr));
    Ok(unpacked.stdout)
}

/// Pins maps, programs and links as the skepd of then did.
fn leave(object: &[u8], base: &Path, sizes: &BTreeMap<String, u32>, cgroup: &Path, device: u32) -> Result<()> {
    let (links, programs) = (base.join("links"), base.join("programs/artefact"));
    for directory in [&links, &programs] {
        fs::create_dir_all(directory)?;
    }
    let mut loader = EbpfLoader::new();
    let pins: Vec<(&String, PathBuf, u32)> =
        sizes.iter().map(|(name, entries)| (name, base.join(name), *entries)).collect();
    for (name, pin, entries) in &pins {
        loader.map_pin_path(name, pin);
        if *entries > 0 {
            loader.map_max_entries(name, *entries);
        }
    }
    let mut object = loader.load(object)?;
    // There is no tunnel here for the one that is of tunnels.
    for (name, program) in object.programs_mut().filter(|(name, _)| *name != "from_wireguard") {
        let (link, pin): (FdLink, _) = match program {
            Program::CgroupSockAddr(program) => {
                program.load()?;
                let id = program.attach(fs::File::open(cgroup)?, CgroupAttachMode::Single)?;
                (program.take_link(id)?.try_into()?, links.join(name))
            }
            Program::SchedClassifier(program) => {
                program.load()?;
                let way = if name == "from_container" { TcAttachType::Ingress } else { TcAttachType::Egress };
                let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                let id = program.attach_with_options(DEVICE, way, options)?;
                (program.take_link(id)?.try_into()?, links.join(format!("{name}-{device}")))
            }
            _ => anyhow::bail!("{name} is neither a tc nor a socket program"),
        };
        link.pin(pin)?;
        program.pin(programs.join(name))?;
    }
    ensure!(fs::read_dir(&links)?.count() == SocketHook::ALL.len() + 2, "the object lacks programs");
    Ok(())
}

/// Ids of the maps that are pinned there, by name.
fn maps(base: &Path, names: &BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>> {
    names
        .keys()
        .filter(|name| base.join(name).exists())
        .map(|name| Ok((name.clone(), info(&base.join(name))?.id())))
        .collect()
}

/// (link, program) of every link pin, by name.
fn links(base: &Path) -> Result<BTreeMap<String, (u32, u32)>> {
    let entries = fs::read_dir(base.join("links"))?;
    let link = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        let link = FdLink::from(PinnedLink::from_pin(entry.path())?).info()?;
        Ok((entry.file_name().to_string_lossy().into_owned(), (link.id(), link.program_id())))
    };
    entries.map(link).collect()
}
