//! `cargo xtask test reboot`: the package on a whole machine, whose power is cut.
//!
//! A guest with systemd, Docker and nothing of Skep installs the package, brings two environments up, loses its power
//! without warning under requests, and boots again, then once more in an orderly way: every replica, address and name
//! has to be back, and from power-on on nobody may have got an answer who must not: not an environment from the other,
//! nor from its own database what may not ask it, nor the machine itself, nor another one on its network. What may happen
//! at run time happens then, fault by fault, each mended by itself. Then the package is installed over itself, removed,
//! brought back and purged, and `skepd install` and `uninstall` do the same without one.

mod report;

use anyhow::{Context as _, Result};

use self::report::Report;
use super::kernel::Kernel;
use super::machine::{Content, DEADLINE, Facts, Machines, Setting};
use crate::shell::{as_root_again, pass};

/// Kernels of a short run, and those that a long one adds: today's stable one; the oldest, which has no tcx.
const SERIES: [&str; 2] = ["6.12", "6.1"];
const CONTENT: Content = Content {
    stages: concat!(include_str!("reboot/faults.sh"), include_str!("reboot/stages.sh")),
    compose: include_str!("reboot/compose.yaml"),
    files: &[("outside.sh", include_str!("reboot/outside.sh"))],
};

/// Set-up, package, image, a guest for each kernel, table.
pub(in crate::test) fn run(yes: bool, series: &[String], long: bool) -> Result<()> {
    if let Some(mut again) = as_root_again()? {
        return pass(&mut again);
    }
    let series: Vec<&str> = match (series.is_empty(), long) {
        (false, _) => series.iter().map(String::as_str).collect(),
        (true, true) => SERIES.to_vec(),
        (true, false) => SERIES[..1].to_vec(),
    };
    let (machines, kernels) = Machines::of("reboot", &CONTENT, yes, &series)?;
    let mut all = Vec::new();
    for kernel in &kernels {
        println!("Booting {}, cutting its power, booting it, rebooting it …", kernel.release());
        let facts = boots(&machines, kernel).with_context(|| format!("kernel {}", kernel.release()))?;
        all.push((kernel.release().to_owned(), facts));
    }
    println!("\n{}", Report(&all));
    Ok(())
}

/// One machine, from its first boot to its last.
fn boots(machines: &Machines, kernel: &Kernel) -> Result<Facts> {
    let machine = machines.machine(kernel, "reboot")?;
    let mut facts = Facts::default();
    // The last words of each boot's stages, and whether what follows is for the guest to do.
    let boots: [(_, &[_], _); 3] =
        [("first", &["cut"], false), ("cut", &["reboot"], true), ("reboot", &["kept", "mended", "done"], false)];
    for (boot, words, orderly) in boots {
        let mut guest = machine.boot(boot, &Setting::default())?;
        for word in words {
            facts.hear(&mut guest, word)?;
        }
        if orderly {
            guest.ended(DEADLINE)?;
        } else {
            // Like a plug that is pulled: the kernel of the guest does not hear of it.
            guest.kill()?;
        }
    }
    report::must_be_whole(&facts)?;
    Ok(facts)
}
