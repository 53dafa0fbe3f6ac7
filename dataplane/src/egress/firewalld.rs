//! firewalld refuses what comes by a device that it has no zone for, in a table of its own, whatever others accept. So
//! the replicas' devices go into its zone `trusted`, as Docker's have a zone; what may pass is for the programs and our
//! own table to say. At runtime only: it forgets that at each reload, and nothing of it outlives skepd.

use super::EgressError;
use super::command::{ask, run};
use crate::netlink::VETH_PREFIX;

/// firewalld's own.
pub(super) const TABLE: &str = "firewalld";
/// Its D-Bus interface by systemd's tool: its own, in Python, takes a second to start.
const PROGRAM: &str = "busctl";
const ZONES: [&str; 4] =
    ["call", "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1", "org.fedoraproject.FirewallD1.zone"];
const ZONE: &str = "trusted";

/// Puts the replicas' devices into the zone, unless they are in one already, perhaps one of somebody's choice; returns
/// whether they were in none.
pub(super) async fn ensure() -> Result<bool, EgressError> {
    if zone().await.as_deref() != Some("") {
        return Ok(false);
    }
    change("addInterface").await?;
    Ok(true)
}

/// Takes them out of the zone.
pub(super) async fn remove() -> Result<(), EgressError> {
    if zone().await.as_deref() == Some(ZONE) { change("removeInterface").await } else { Ok(()) }
}

async fn change(method: &str) -> Result<(), EgressError> {
    run(PROGRAM, &[ZONES.as_slice(), &[method, "ss", ZONE, &devices()]].concat(), "").await
}

/// The devices' zone, empty when there is none; nothing where no firewalld runs.
async fn zone() -> Option<String> {
    ask("nft", &["list", "table", "inet", TABLE]).await?;
    let answer = ask(PROGRAM, &[ZONES.as_slice(), &["getZoneOfInterface", "s", &devices()]].concat()).await?;
    quoted(&answer).map(str::to_owned)
}

/// Those that are there and those that will be.
fn devices() -> String {
    format!("{VETH_PREFIX}+")
}

/// A string as `busctl` prints it: `s "trusted"`.
fn quoted(answer: &str) -> Option<&str> {
    answer.trim().strip_prefix("s \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_zone_is_read_and_none_is_empty() {
        assert_eq!(quoted("s \"trusted\"\n"), Some("trusted"));
        assert_eq!(quoted("s \"\"\n"), Some(""));
        assert_eq!(quoted("b true\n"), None);
    }
}
