//! What skepd has put into the kernel and should still be there: looked at by whoever asks, changed by nobody.

use ipnet::Ipv4Net;

use super::{Finding, Level, Wanted};
use crate::bpf::{BpfError, DeviceHook, MapUsage, Maps, Pins, Programs, SocketHook, find_cgroup2_root};
use crate::netlink::{Netlink, NetlinkError};

/// Veths without their programs that are named one by one.
const NAMED: usize = 5;

/// What says how to get programs back.
const ATTACH: &str = "start skepd, which attaches it; if skepd runs, its log says why it cannot";

/// The kernel side of a node that skepd has been started on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Host ends of replicas' veths.
    pub veths: Vec<Veth>,
    /// Socket programs that do not run.
    pub missing_sockets: Vec<SocketHook>,
    /// How full the maps are; empty when there are none.
    pub maps: Vec<MapUsage>,
}

/// The host's end of a replica's veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub replica: String,
    /// Programs that do not run on it.
    pub missing: Vec<DeviceHook>,
}

/// Why it cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the errors say it")]
pub enum InstalledError {
    #[error(transparent)]
    Bpf(#[from] BpfError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Installed {
    /// Looks with what a daemon has open.
    ///
    /// # Errors
    /// [`InstalledError`] when the kernel does not tell.
    pub async fn look(
        netlink: &Netlink,
        pool: Ipv4Net,
        programs: &Programs,
        maps: &Maps,
    ) -> Result<Self, InstalledError> {
        let missing = |ifindex| programs.missing(ifindex);
        Ok(Self {
            veths: veths(netlink, pool, missing).await?,
            missing_sockets: programs.missing_sockets()?,
            maps: maps.usage()?,
        })
    }

    /// Looks at what is pinned, without a daemon.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub async fn look_at_pins(wanted: &Wanted) -> Result<Self, InstalledError> {
        let (netlink, pins) = (Netlink::connect()?, Pins::new(&wanted.bpffs));
        match Programs::open(&pins, &find_cgroup2_root()?)? {
            Some(programs) => {
                Self::look(&netlink, wanted.container_pool4, &programs, &Maps::open_read_only(&pins)?).await
            }
            None => {
                let missing = |_| Ok(DeviceHook::VETH.to_vec());
                let veths = veths(&netlink, wanted.container_pool4, missing).await?;
                Ok(Self { veths, ..Self::default() })
            }
        }
    }

    /// What people should know of a replica, by the host's end of its veth.
    pub fn complaint(&self, veth: &str) -> Option<String> {
        let veth = self.veths.iter().find(|it| it.name == veth);
        match veth.filter(|veth| !veth.missing.is_empty()) {
            Some(veth) => Some(format!("{}: {ATTACH}", lacks(veth))),
            None if self.missing_sockets.is_empty() => None,
            None => Some(format!("{}: {ATTACH}", sockets(&self.missing_sockets))),
        }
    }

    /// Judges; nothing to say about a machine that skepd has never been started on.
    pub fn check(&self) -> Vec<Finding> {
        let lacking: Vec<_> = self.veths.iter().filter(|veth| !veth.missing.is_empty()).collect();
        let grave = |what| Finding { level: Level::Error, what, remedy: Some(ATTACH.to_owned()) };
        let mut findings: Vec<_> = lacking.iter().take(NAMED).map(|veth| grave(lacks(veth))).collect();
        if lacking.len() > NAMED {
            findings.push(grave(format!("and {} more veths without a program", lacking.len() - NAMED)));
        }
        if !self.missing_sockets.is_empty() {
            findings.push(grave(sockets(&self.missing_sockets)));
        }
        findings.extend(self.maps.iter().filter_map(|usage| {
            let MapUsage { name, entries, capacity } = usage;
            let what = format!("map {name} is {} % full: {entries} of {capacity}", usage.percent());
            usage.remedy().map(|remedy| Finding { level: Level::Warn, what, remedy: Some(remedy.to_owned()) })
        }));
        if findings.is_empty() && !self.maps.is_empty() {
            let what = format!("programs on {} veths and at the cgroup; no map is nearly full", self.veths.len());
            findings.push(Finding { level: Level::Ok, what, remedy: None });
        }
        findings
    }
}

/// What is so when nobody can look.
pub fn unreadable(error: &InstalledError) -> Finding {
    let what = format!("what skepd has put into the kernel is not readable: {error}");
    Finding { level: Level::Error, what, remedy: Some("start skepd, which makes what is missing anew".to_owned()) }
}

async fn veths(
    netlink: &Netlink,
    pool: Ipv4Net,
    missing: impl Fn(u32) -> Result<Vec<DeviceHook>, BpfError>,
) -> Result<Vec<Veth>, InstalledError> {
    let veths = netlink.veths(pool).await?.into_iter();
    veths.map(|veth| Ok(Veth { missing: missing(veth.ifindex)?, name: veth.name, replica: veth.alias })).collect()
}

fn lacks(veth: &Veth) -> String {
    let programs: Vec<_> = veth.missing.iter().map(|hook| hook.program()).collect();
    let what = match veth.missing.as_slice() {
        // Within its networks, a replica is reached past this program.
        [DeviceHook::ToContainer] => "it gets no answer from outside",
        _ => "nothing that it sends gets anywhere",
    };
    format!("{} is not on {} of {}: {what}", programs.join(" and "), veth.name, veth.replica)
}

fn sockets(missing: &[SocketHook]) -> String {
    let programs: Vec<_> = missing.iter().map(|hook| hook.program()).collect();
    format!("{} not at the cgroup: sockets have no virtual addresses", programs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Installed {
        let veth = |name: &str, replica: &str| Veth { name: name.into(), replica: replica.into(), missing: vec![] };
        let usage = |name, entries| MapUsage { name, entries, capacity: 100 };
        Installed {
            veths: vec![veth("skep0ad00001", "shop/production/web.1"), veth("skep0ad00002", "shop/production/api.1")],
            missing_sockets: Vec::new(),
            maps: vec![usage("NAMES", 79), usage("FLOWS", 100)],
        }
    }

    #[test]
    fn a_whole_node_gets_one_line_and_an_unused_one_none() {
        let findings = good().check();
        assert_eq!(findings.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Ok]);
        assert_eq!(good().complaint("skep0ad00001"), None);
        assert!(Installed::default().check().is_empty());
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_replica_and_the_remedy() {
        let mut lacking = good();
        lacking.veths[1].missing = vec![DeviceHook::FromContainer];
        let findings = lacking.check();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].level == Level::Error && findings[0].remedy.as_deref() == Some(ATTACH));
        for part in ["from_container", "skep0ad00002", "shop/production/api.1"] {
            assert!(findings[0].what.contains(part), "{part}: {}", findings[0].what);
        }
        assert!(lacking.complaint("skep0ad00002").is_some_and(|text| text.contains("from_container")));
        assert_eq!(lacking.complaint("skep0ad00001"), None);
    }

    #[test]
    fn missing_socket_programs_concern_every_replica_and_many_veths_fit_one_screen() {
        let mut lacking = good();
        lacking.missing_sockets = vec![SocketHook::Connect4, SocketHook::Sendmsg6];
        assert!(lacking.complaint("skep0ad00001").is_some_and(|text| text.contains("connect4, sendmsg6")));
        let veth = Veth { missing: DeviceHook::VETH.to_vec(), ..lacking.veths[0].clone() };
        lacking.veths = vec![veth; 30];
        assert_eq!(lacking.check().len(), NAMED + 2);
    }

    #[test]
    fn a_map_that_is_nearly_full_is_a_warning_with_its_remedy() {
        let mut full = good();
        full.maps[0].entries = 80;
        let findings = full.check();
        assert_eq!(findings.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Warn]);
        assert!(findings[0].what.contains("NAMES is 80 %") && findings[0].remedy.is_some());
    }
}
