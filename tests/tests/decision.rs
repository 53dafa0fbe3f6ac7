// NOTE from the lead (delete this): your VERBOSE load had been running for 10 minutes, so I killed it; use VerifierLogLevel::STATS (3 s).
// from_container: 1,000,001 insns, all spent in dns/parse.rs (to_container is fine: 25,666). Reasons and a cure:
// 1. `question()` leaves its loop in up to 128 different states (labels is a known constant, here/last have different ranges), each of which
//    then explores everything after it. Cure: write Parsed into the per-CPU scratch (a map value, whose contents the verifier does not track) and
//    read it back with read_volatile: all exit states become one (unknown scalars, mask/check bounds again on use).
// 2. `lower_name()` branches on `left` in each of its 32 rounds (saturating_sub, left >= 4): cure: zero key.name, then `bytes.copy(at + HEADER_LEN,
//    name_len, &mut key.name, 0)` and lower all 32 words without any branch (lower(0) = 0). Same for reverse6: no early returns inside the loop, accumulate `bad |= …`.
// You are on the critical path: everybody waits for programs that load. Please push to main as soon as from_container loads and a ping, a TCP connect and a dig work;
// (finish your interrupted rebase: `git add -A && git rebase --continue`), the rest of the tests after that.
//! The tc programs decide as the pure functions do.
use aya::{EbpfLoader, VerifierLogLevel, programs::SchedClassifier};
use dataplane::object::OBJECT;

#[test]
fn every_program_loads() -> anyhow::Result<()> {
    let file = std::env::var("OBJ").ok().map(|p| std::fs::read(p).unwrap());
    let mut ebpf =
        EbpfLoader::new().verifier_log_level(VerifierLogLevel::STATS).load(file.as_deref().unwrap_or(OBJECT))?;
    for name in ["from_container", "to_container"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into()?;
        if let Err(e) = program.load() {
            let s = format!("{e}");
            println!("{name} FAILED: {}", &s[s.len().saturating_sub(5000)..]);
            continue;
        }
        println!("{name}: {:?}", program.info()?.verified_instruction_count());
    }
    Ok(())
}
