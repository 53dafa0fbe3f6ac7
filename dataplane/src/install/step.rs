use std::fmt;

use super::files::File;
use super::{Facts, GROUP, Manager, UNITS, UNITS_ON_DEMAND, Wanted};

/// Something that is missing; shown as it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file, whole or not at all.
    Place(File),
    /// The group.
    AddGroup,
    /// systemd reads the units anew.
    Reload,
    /// A unit is to start with the machine.
    Enable(&'static str),
    /// A unit is started.
    Start(&'static str),
    /// A unit of before is started anew.
    Restart(&'static str),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(file) => write!(f, "place {}", file.path.display()),
            Self::AddGroup => {
                write!(f, "add the group {GROUP}, whose members may use skepctl (usermod -aG {GROUP} USER)")
            }
            Self::Reload => write!(f, "systemctl daemon-reload"),
            Self::Enable(unit) => write!(f, "systemctl enable {unit}"),
            Self::Start(unit) => write!(f, "systemctl start {unit}"),
            Self::Restart(unit) => write!(f, "systemctl restart {unit}"),
        }
    }
}

/// What has to be done, in its order.
///
/// A unit whose program or text is new is started anew: the daemon is not on the path of any packet, and the
/// forwarder's sockets are kept meanwhile.
pub fn plan(files: Vec<File>, facts: &Facts, wanted: Wanted) -> Vec<Step> {
    let mut steps: Vec<Step> =
        files.into_iter().filter(|file| !facts.placed.contains(&file.path)).map(Step::Place).collect();
    let placed = |name: &str| steps.iter().any(|step| matches!(step, Step::Place(file) if file.path.ends_with(name)));
    let program = placed("bin/skepd");
    let changed = UNITS.map(|unit| program || placed(unit));
    let mut others = UNITS_ON_DEMAND.into_iter().chain(["skepd-bpffs.service"]);
    let any_unit = changed.contains(&true) || others.any(placed);
    if !facts.group {
        steps.push(Step::AddGroup);
    }
    if facts.manager == Manager::Running && any_unit {
        steps.push(Step::Reload);
    }
    let units = UNITS.map(|unit| facts.units.get(unit).copied().unwrap_or_default());
    if facts.manager != Manager::Absent && !wanted.keep_enablement {
        let missing = UNITS.into_iter().zip(units).filter(|(_, state)| !state.enabled);
        steps.extend(missing.map(|(unit, _)| Step::Enable(unit)));
    }
    if facts.manager == Manager::Running {
        for ((unit, state), changed) in UNITS.into_iter().zip(units).zip(changed) {
            match state {
                // Stopped by the administrator, who may have reasons: an upgrade does not start it.
                _ if !state.active && wanted.keep_enablement => {}
                _ if !state.active => steps.push(Step::Start(unit)),
                _ if changed || !state.current => steps.push(Step::Restart(unit)),
                _ => {}
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::install::Unit;

    const INSTALL: Wanted = Wanted { keep_enablement: false };
    const UPGRADE: Wanted = Wanted { keep_enablement: true };
    const GOOD: Unit = Unit { enabled: true, active: true, current: true };

    fn files() -> Vec<File> {
        let paths = ["/usr/bin/skepd", "/usr/lib/systemd/system/skepd.service", "/usr/share/man/man8/skepd.8"];
        paths.map(|path| File { path: PathBuf::from(path), mode: 0o644, content: Vec::new() }).into()
    }

    fn installed() -> Facts {
        Facts {
            placed: files().into_iter().map(|file| file.path).collect(),
            group: true,
            manager: Manager::Running,
            units: UNITS.map(|unit| (unit, GOOD)).into(),
        }
    }

    fn lines(facts: &Facts, wanted: Wanted) -> Vec<String> {
        plan(files(), facts, wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_all_is_there_nothing_is_done() {
        assert_eq!(lines(&installed(), INSTALL), [""; 0]);
        assert_eq!(lines(&installed(), UPGRADE), [""; 0]);
    }

    #[test]
    fn on_a_new_machine_everything_is_done_and_started_last() {
        let facts = Facts { placed: Vec::new(), group: false, units: Default::default(), ..installed() };
        let lines = lines(&facts, INSTALL);
        assert_eq!(
            lines[..3],
            ["/usr/bin/skepd", "/usr/lib/systemd/system/skepd.service", "/usr/share/man/man8/skepd.8"]
                .map(|path| format!("place {path}"))
        );
        assert!(lines[3].starts_with("add the group skep"));
        assert_eq!(
            lines[4..],
            [
                "systemctl daemon-reload",
                "systemctl enable skepd.service",
                "systemctl enable skepd-dns.service",
                "systemctl start skepd.service",
                "systemctl start skepd-dns.service"
            ]
        );
    }

    #[test]
    fn an_image_that_is_being_made_has_its_units_enabled_and_nothing_started() {
        let facts = Facts { manager: Manager::Asleep, units: Default::default(), ..installed() };
        assert_eq!(lines(&facts, INSTALL), UNITS.map(|unit| format!("systemctl enable {unit}")));
    }

    #[test]
    fn an_upgrade_restarts_what_runs_and_leaves_what_was_stopped() {
        let mut facts = installed();
        facts.units.insert(UNITS[0], Unit { current: false, ..GOOD });
        facts.units.insert(UNITS[1], Unit::default());
        assert_eq!(lines(&facts, UPGRADE), ["systemctl restart skepd.service"]);
    }

    #[test]
    fn the_tunnels_unit_is_placed_and_neither_started_nor_enabled() {
        let path = "/usr/lib/systemd/system/skepd-tunnel.service";
        let file = File { path: PathBuf::from(path), mode: 0o644, content: Vec::new() };
        let mut facts = installed();
        for unit in [GOOD, Unit { current: false, ..GOOD }, Unit::default()] {
            facts.units.insert(UNITS_ON_DEMAND[0], unit);
            let steps = plan(vec![file.clone()], &facts, INSTALL);
            let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
            assert_eq!(lines, [format!("place {path}"), "systemctl daemon-reload".to_owned()]);
        }
    }

    #[test]
    fn a_new_page_of_the_manual_restarts_nothing() {
        let mut facts = installed();
        facts.placed.retain(|path| !path.ends_with("skepd.8"));
        assert_eq!(lines(&facts, INSTALL), ["place /usr/share/man/man8/skepd.8"]);
        facts.placed.retain(|path| !path.ends_with("skepd.service"));
        assert_eq!(lines(&facts, INSTALL)[2..], ["systemctl daemon-reload", "systemctl restart skepd.service"]);
    }
}
