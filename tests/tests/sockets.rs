//! Socket programs by real calls.

use anyhow::Result;
use dataplane::bpf::{self, MapSizes, Pins, Programs};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;

#[test]
fn loads() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let cgroup = Cgroup::new(&bpf::find_cgroup2_root()?)?;
    let pins = Pins::new(&bpffs.path());
    let (programs, _maps) = Programs::load_or_adopt(&pins, &MapSizes::default(), cgroup.path())?;
    println!("{:?}", programs.verified_instructions()?);
    programs.attach_sockets()?;
    Ok(())
}
