//! The daemon's own table.

use std::fmt::{self, Display, Write};

use super::command::{ask, run};
use super::dropped::{self, Rule};
use super::{EgressError, EgressRules};
use crate::netlink::VETH_PREFIX;

/// Replaces the table unless it is as wanted; returns whether it changed.
pub(super) async fn ensure(rules: &EgressRules) -> Result<bool, EgressError> {
    let name = table_name(&rules.node);
    let wanted = Table(rules).to_string();
    let before = list(&name).await;
    if before.as_deref() == Some(&wanted) {
        return Ok(false);
    }
    // One transaction: no packet meets a machine without the table.
    run("nft", &["-f", "-"], &format!("{}{wanted}", delete(&name))).await?;
    // Another release of nft may write the same rules in other words.
    Ok(list(&name).await != before)
}

pub(super) async fn remove(node: &str) -> Result<(), EgressError> {
    run("nft", &["-f", "-"], &delete(&table_name(node))).await
}

async fn list(name: &str) -> Option<String> {
    // Stateless: without the counters' values.
    ask("nft", &["-s", "list", "table", "inet", name]).await
}

/// Deletes a table, there or not.
fn delete(name: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\n")
}

/// Of every daemon's table.
pub(super) const TABLE_PREFIX: &str = "skep_";

/// Node names are host names; nft's identifiers have no hyphen, host names no underscore.
pub(super) fn table_name(node: &str) -> String {
    let safe = |character: char| if character.is_ascii_alphanumeric() || character == '.' { character } else { '_' };
    format!("{TABLE_PREFIX}{}", node.chars().map(safe).collect::<String>())
}

/// The table in the words in which `nft list table` repeats it.
struct Table<'a>(&'a EgressRules);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rules) = self;
        writeln!(f, "table inet {} {{", table_name(&rules.node))?;
        let chains = [
            ("input", "type filter hook input priority filter - 5; policy accept;", self.input()),
            ("leaving", "", self.leaving()),
            ("forward", "type filter hook forward priority filter - 5; policy accept;", self.forward()),
            ("output", "type filter hook output priority filter - 5; policy accept;", self.output()),
            ("postrouting", "type nat hook postrouting priority srcnat - 5; policy accept;", self.postrouting()),
        ];
        for (i, (name, hook, lines)) in chains.iter().enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            writeln!(f, "\tchain {name} {{")?;
            for line in std::iter::once(*hook).filter(|hook| !hook.is_empty()).chain(lines.iter().map(String::as_str)) {
                writeln!(f, "\t\t{line}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Table<'_> {
    fn mark(&self, operator: &str, mark: u32) -> String {
        format!("meta mark & 0x{:08x} {operator} 0x{mark:08x}", self.0.mark_mask)
    }

    /// A veth without its program lets nothing in, on both ways: closed, not open.
    fn unmarked(&self) -> String {
        let unmarked = self.mark("!=", self.0.pass_mark);
        dropping(&format!("iifname \"{VETH_PREFIX}*\" {unmarked} "), &dropped::UNMARKED)
    }

    fn input(&self) -> Vec<String> {
        let dns = self.0.dns;
        vec![
            self.unmarked(),
            format!("ip daddr {dns} {} accept", self.mark("==", self.0.pass_mark)),
            format!("ip daddr {dns} {} accept", self.mark("==", self.0.host_mark)),
            dropping(&format!("ip daddr {dns} "), &dropped::DNS),
        ]
    }

    fn forward(&self) -> Vec<String> {
        vec![
            self.unmarked(),
            format!("ip saddr {} goto leaving", self.0.container_pool4),
            format!("ip6 saddr {} goto leaving", self.0.container_pool6),
            format!("oifname \"{VETH_PREFIX}*\" ct state established,related accept"),
            dropping(&format!("oifname \"{VETH_PREFIX}*\" "), &dropped::UNASKED),
        ]
    }

    fn leaving(&self) -> Vec<String> {
        // What connection tracking has lost would leave with the replica's own address.
        let invalid = dropping("ct state invalid ", &dropped::INVALID);
        let uplinks = self.0.uplinks.iter().map(|uplink| format!("oifname \"{uplink}\" accept"));
        let rest = dropping("", &dropped::UPLINK);
        std::iter::once(invalid).chain(uplinks).chain(std::iter::once(rest)).collect()
    }

    /// What `to_container` would drop, for the device that has lost it: a process of this machine may not send to a
    /// replica. The stack's own errors have no mark, and no process without privileges can make one.
    fn output(&self) -> Vec<String> {
        let veths = format!("oifname \"{VETH_PREFIX}*\"");
        let errors4 = "icmp type { destination-unreachable, time-exceeded, parameter-problem }";
        let errors6 = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }";
        vec![
            format!("{veths} {} accept", self.mark("==", self.0.host_mark)),
            format!("{veths} {errors4} accept"),
            format!("{veths} {errors6} accept"),
            dropping(&format!("{veths} icmpv6 type mld2-listener-report "), &dropped::REPORT),
            dropping(&format!("{veths} ip protocol igmp "), &dropped::REPORT),
            dropping(&format!("{veths} "), &dropped::HOST),
        ]
    }

    fn postrouting(&self) -> Vec<String> {
        let marked = self.mark("==", self.0.pass_mark);
        let pools = [format!("ip saddr {}", self.0.container_pool4), format!("ip6 saddr {}", self.0.container_pool6)];
        let masquerade = |pool: &String| {
            let rule = |uplink: &String| format!("{pool} {marked} oifname \"{uplink}\" masquerade");
            self.0.uplinks.iter().map(rule).collect::<Vec<_>>()
        };
        pools.iter().flat_map(masquerade).collect()
    }
}

/// Drops what matches.
fn dropping(matches: &str, rule: &Rule) -> String {
    format!("{matches}{}", rule.statement())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(uplinks: &[&str]) -> EgressRules {
        EgressRules {
            node: "node-1.example".to_owned(),
            container_pool4: "10.208.0.0/12".parse().unwrap(),
            container_pool6: "fd53:6b65:7000::/48".parse().unwrap(),
            dns: [10, 224, 0, 53].into(),
            uplinks: uplinks.iter().map(|uplink| (*uplink).to_owned()).collect(),
            pass_mark: 0x0500_0000,
            host_mark: 0x0600_0000,
            mark_mask: 0x0f00_0000,
        }
    }

    #[test]
    fn a_nodes_name_becomes_an_identifier() {
        assert_eq!(table_name("node-1.example"), "skep_node_1.example");
    }

    #[test]
    fn without_an_uplink_nothing_leaves() {
        let table = Table(&rules(&[])).to_string();
        assert!(!table.contains("masquerade\n"), "{table}");
        let leaving = "\tchain leaving {\n\
            \t\tct state invalid counter drop comment \"would leave without masquerading\"\n\
            \t\tcounter drop comment \"not an uplink\"\n\t}\n";
        assert!(table.contains(leaving), "{table}");
    }

    #[test]
    fn every_uplink_masquerades_both_families() {
        let table = Table(&rules(&["eth0", "wlan0"])).to_string();
        for pool in ["ip saddr 10.208.0.0/12", "ip6 saddr fd53:6b65:7000::/48"] {
            for uplink in ["eth0", "wlan0"] {
                let rule = format!("{pool} meta mark & 0x0f000000 == 0x05000000 oifname \"{uplink}\" masquerade\n");
                assert!(table.contains(&rule), "{rule} is not in {table}");
            }
        }
    }
}
