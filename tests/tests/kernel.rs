//! This kernel takes every program. `cargo xtask test vm` reads the lines that are printed.

use anyhow::{Context as _, Result};
use dataplane::bpf::{Attached, MapSizes, Pins, Programs, find_cgroup2_root};
use tests::{bpffs::Bpffs, cgroup::Cgroup, netns::Namespace};

#[test]
fn this_kernel_loads_and_attaches_every_program() -> Result<()> {
    let (bpffs, cgroup) = (Bpffs::new()?, Cgroup::new(&find_cgroup2_root()?)?);
    let pins = Pins::new(&bpffs.path().join("skep"));
    let sizes = MapSizes { local: 64, endpoints: 256, services: 64, ..MapSizes::default() };
    let (programs, _maps) = Programs::load_or_adopt(&pins, &sizes, cgroup.path())?;
    programs.attach_sockets()?;
    assert_eq!(programs.missing_sockets()?, []);

    let namespace = Namespace::new()?;
    namespace.run("ip link add skep0 type veth peer name eth0")?;
    let link = namespace.run("ip -o link show skep0")?;
    let ifindex = link.split(':').next().context("an ifindex")?.trim().parse()?;
    namespace.enter(|| Ok(programs.attach(ifindex, "skep0")?))?;
    let attached = namespace.enter(|| Ok(programs.attached()?))?;
    assert_eq!(attached.get(&ifindex), Some(&Attached::Current));
    for (program, instructions) in programs.verified_instructions()? {
        println!("program {program} {instructions}");
    }
    Ok(())
}
