//! What this machine has.

use crate::model::Capacity;

/// Memory and processors of the whole machine, as sysconf(3) tells; [`None`] when it does not.
pub(crate) fn capacity() -> Option<Capacity> {
    let ask = |name| {
        // SAFETY: takes a number and gives one.
        u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|told| *told > 0)
    };
    let memory = ask(libc::_SC_PHYS_PAGES)?.checked_mul(ask(libc::_SC_PAGESIZE)?)?;
    Some(Capacity { memory, nano_cpus: ask(libc::_SC_NPROCESSORS_ONLN)?.checked_mul(1_000_000_000)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_is_the_machines() {
        let told = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = told.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
        let capacity = capacity().unwrap();
        assert_eq!(capacity.memory, kib << 10);
        assert!(capacity.nano_cpus >= 1_000_000_000);
    }
}
