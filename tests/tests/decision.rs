//! The tc programs decide as the pure functions do.
use aya::{EbpfLoader, programs::SchedClassifier};
use dataplane::object::OBJECT;

#[test]
fn every_program_loads() -> anyhow::Result<()> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    for name in ["from_container", "to_container"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into()?;
        program.load()?;
        println!("{name}: {:?}", program.info()?.verified_instruction_count());
    }
    for (name, map) in ebpf.maps() {
        println!("{name}");
        let _ = map;
    }
    Ok(())
}
