//! The rules that drop, and how often each has.

use std::net::Ipv4Addr;

use serde::Deserialize;

use dataplane_ebpf::abi::Reason;

use super::EgressError;
use super::command::output;
use super::nft::TABLE_PREFIX;
use crate::bpf::ReasonText;

/// A rule that drops: the second line, behind the programs.
#[derive(Debug)]
pub(super) struct Rule {
    /// The rule's comment.
    comment: &'static str,
    reason: &'static str,
    explanation: &'static str,
    remedy: &'static str,
}

pub(super) const UNMARKED: Rule = Rule {
    comment: "not let through by the program",
    reason: "firewall-unmarked",
    explanation: "The device of a replica had lost its program, without which nothing passes.",
    remedy: "skepd puts it back within seconds; see skepctl check if it goes on",
};
pub(super) const DNS: Rule = Rule {
    comment: "DNS is for replicas",
    reason: "firewall-dns",
    explanation: "Somebody other than a replica asked the cluster's DNS address.",
    remedy: "ask from within a container; the host has a resolver of its own",
};
pub(super) const UNASKED: Rule = Rule {
    comment: "not a reply",
    reason: "firewall-unasked",
    explanation: "The host was to forward something to a replica that had not asked for it.",
    remedy: "reach the service from within its environment",
};
pub(super) const INVALID: Rule = Rule {
    comment: "would leave without masquerading",
    reason: "firewall-invalid",
    explanation: "The host no longer knew the connection, and would have sent it out with the replica's own address.",
    remedy: "begin the connection anew; if it goes on, see nf_conntrack_max and conntrack -S",
};
pub(super) const UPLINK: Rule = Rule {
    comment: "not an uplink",
    reason: "firewall-uplink",
    explanation: "The host would have sent it out through a device that is not an uplink.",
    remedy: "uplinks are the devices of the default routes: ip route show default",
};
pub(super) const HOST: Rule = Rule {
    comment: "replicas are not reachable from the host",
    reason: "firewall-host",
    explanation: "A process of the host itself sent something to a replica.",
    remedy: "ask from within a container of the environment",
};

/// The kernel's own, before [`HOST`] counts them as somebody's.
pub(super) const REPORT: Rule = Rule {
    comment: "a report of multicast groups",
    reason: Reason::MulticastReport.name(),
    explanation: Reason::MulticastReport.explanation(),
    remedy: Reason::MulticastReport.remedy(),
};

const RULES: [&Rule; 7] = [&UNMARKED, &DNS, &UNASKED, &INVALID, &UPLINK, &REPORT, &HOST];

impl Rule {
    /// As nftables writes it.
    pub(super) fn statement(&self) -> String {
        format!("counter drop comment \"{}\"", self.comment)
    }

    fn text(&self) -> ReasonText {
        ReasonText {
            reason: self.reason.to_owned(),
            explanation: self.explanation.to_owned(),
            remedy: self.remedy.to_owned(),
        }
    }
}

/// What the rules of the daemon with this DNS address have dropped: why, and how many packets since the table was made.
/// Nothing where there is no such table.
///
/// # Errors
/// [`EgressError`].
pub async fn dropped(dns: Ipv4Addr) -> Result<Vec<(ReasonText, u64)>, EgressError> {
    let listed = output("nft", &["--json", "list", "ruleset", "inet"]).await?;
    let unreadable = |error: serde_json::Error| EgressError::Failed {
        command: "nft --json list ruleset inet".to_owned(),
        stderr: error.to_string(),
    };
    Ok(count(&serde_json::from_str(&listed).map_err(unreadable)?, dns))
}

#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    rule: Option<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    table: String,
    comment: Option<String>,
    expr: Vec<serde_json::Value>,
}

impl Listed {
    /// Packets that its counter has counted.
    fn packets(&self) -> u64 {
        self.expr.iter().filter_map(|part| part.get("counter")?.get("packets")?.as_u64()).sum()
    }

    fn names(&self, dns: &str) -> bool {
        self.expr.iter().any(|part| part.pointer("/match/right").is_some_and(|right| right == dns))
    }
}

/// A rule that stands in two chains counts once; what never dropped is left out.
fn count(ruleset: &Ruleset, dns: Ipv4Addr) -> Vec<(ReasonText, u64)> {
    let rules: Vec<&Listed> = ruleset.nftables.iter().filter_map(|object| object.rule.as_ref()).collect();
    let dns = dns.to_string();
    let own = rules.iter().find(|rule| rule.table.starts_with(TABLE_PREFIX) && rule.names(&dns));
    let Some(table) = own.map(|rule| &rule.table) else { return Vec::new() };
    let packets = |known: &Rule| {
        let same = |rule: &&&Listed| &rule.table == table && rule.comment.as_deref() == Some(known.comment);
        rules.iter().filter(same).map(|rule| rule.packets()).sum()
    };
    RULES.iter().map(|known| (known.text(), packets(known))).filter(|(_, packets)| *packets > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_with_the_dns_address_counts() {
        let rule = |table: &str, comment: &str, packets: u64, dns: &str| {
            format!(
                r#"{{"rule": {{"family": "inet", "table": "{table}", "chain": "input", "handle": 2, "comment": "{comment}", "expr": [
                    {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "ip", "field": "daddr"}}}}, "right": "{dns}"}}}},
                    {{"counter": {{"packets": {packets}, "bytes": 9}}}}, {{"drop": null}}]}}}}"#
            )
        };
        let objects = [
            r#"{"metainfo": {"version": "1.0.9"}}"#.to_owned(),
            r#"{"table": {"family": "inet", "name": "skep_a", "handle": 1}}"#.to_owned(),
            rule("skep_a", DNS.comment, 3, "10.224.0.53"),
            rule("skep_a", UNMARKED.comment, 2, "::"),
            rule("skep_a", UNMARKED.comment, 5, "::"),
            rule("skep_a", HOST.comment, 0, "::"),
            rule("skep_a", "of somebody's own", 7, "::"),
            rule("skep_b", DNS.comment, 11, "10.96.0.53"),
            rule("other", DNS.comment, 13, "10.224.0.53"),
        ];
        let ruleset = serde_json::from_str(&format!(r#"{{"nftables": [{}]}}"#, objects.join(","))).unwrap();
        let of = |dns: &str| count(&ruleset, dns.parse().unwrap());
        assert_eq!(of("10.224.0.53"), [(UNMARKED.text(), 7), (DNS.text(), 3)]);
        assert_eq!(of("10.96.0.53"), [(DNS.text(), 11)]);
        assert_eq!(of("10.1.0.53"), []);
    }
}
