//! This kernel takes every program. `cargo xtask test vm` reads the lines that are printed.

use std::{collections::HashMap, process::Command};

use anyhow::{Context as _, Result};
use dataplane::{
    bpf::{Attached, MapSizes, Pins, Programs, find_cgroup2_root},
    object::OBJECT,
};
use serde::Deserialize;
use tests::{bpffs::Bpffs, cgroup::Cgroup, command, netns::Namespace, tun::Tun};

/// A type in the object's BTF, as far as functions need it.
#[derive(Debug, Deserialize)]
struct Type {
    id: u32,
    kind: String,
    name: String,
    /// Of a function: its prototype.
    type_id: Option<u32>,
    params: Option<Vec<serde_json::Value>>,
}

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
    let ifindex: u32 = link.split(':').next().context("an ifindex")?.trim().parse()?;
    namespace.enter(|| Ok(programs.attach(ifindex, "skep0")?))?;
    let attached = namespace.enter(|| Ok(programs.attached()?))?;
    assert_eq!(attached.get(&ifindex), Some(&Attached::Current));
    let tunnel = namespace.enter(|| Tun::new("tun0", ifindex + 10, 1_420))?;
    namespace.enter(|| Ok(programs.attach_tunnel(tunnel.ifindex())?))?;
    let tunnels = namespace.enter(|| Ok(programs.tunnels()?))?;
    assert_eq!(tunnels.get(&tunnel.ifindex()), Some(&Attached::Current));
    for (program, instructions) in programs.verified_instructions()? {
        println!("program {program} {instructions}");
    }
    Ok(())
}

/// Linux 7.2 counts parameters as the BTF has them, even those that the compiler took out.
#[test]
fn no_function_has_more_than_five_parameters() -> Result<()> {
    #[derive(Debug, Deserialize)]
    struct Dump {
        types: Vec<Type>,
    }
    let directory = tempfile::tempdir()?;
    let object = directory.path().join("object");
    std::fs::write(&object, OBJECT)?;
    let dump = command::run(Command::new("bpftool").args(["--json", "btf", "dump", "file"]).arg(&object))?;
    let dump: Dump = serde_json::from_str(&dump).context("bpftool's JSON")?;
    let types: HashMap<u32, &Type> = dump.types.iter().map(|kind| (kind.id, kind)).collect();
    let functions: Vec<&Type> = dump.types.iter().filter(|kind| kind.kind == "FUNC").collect();
    assert!(functions.iter().any(|function| function.name == "from_container"), "no functions in {dump:?}");
    for function in functions {
        let prototype = function.type_id.and_then(|id| types.get(&id)).context("a function without a prototype")?;
        let parameters = prototype.params.as_ref().map_or(0, Vec::len);
        assert!(parameters <= 5, "{} has {parameters} parameters: hand some over in a struct", function.name);
    }
    Ok(())
}
