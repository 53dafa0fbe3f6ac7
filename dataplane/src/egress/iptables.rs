//! A few rules where another program's chains would drop what the programs let through: what leaves and what comes
//! back to it, and questions to the DNS address.

use super::command::{ask, run};
use super::{EgressError, EgressRules, legacy};
use crate::netlink::VETH_PREFIX;

/// Where Docker asks others to put their rules: it is run through first, and Docker never empties it.
const DOCKER_CHAIN: &str = "DOCKER-USER";

/// Where the rules for what is forwarded may be.
const CHAINS: [&str; 2] = [DOCKER_CHAIN, "FORWARD"];

/// Where that for what this machine itself is asked may be.
const INPUT: &str = "INPUT";

/// Seconds to wait for the lock that the legacy programs share.
const LOCK: [&str; 2] = ["-w", "5"];

/// One of the programs, for one family and one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    name: &'static str,
    ipv6: bool,
}

/// The kernel runs the chains of both backends, so a drop in either counts. When neither is
/// installed under its own name, there is but one.
const BACKENDS: [[&str; 3]; 2] =
    [["iptables-nft", "iptables-legacy", "iptables"], ["ip6tables-nft", "ip6tables-legacy", "ip6tables"]];

/// Adds the rules where they are needed; returns whether any was missing.
pub(super) async fn ensure(rules: &EgressRules) -> Result<bool, EgressError> {
    let mut changed = false;
    for program in programs().await {
        if !program.ipv6 {
            let question = [question(rules)];
            let wanted: &[Vec<String>] = if program.refuses_questions(&rules.node).await { &question } else { &[] };
            changed |= program.put(INPUT, wanted, &rules.node).await?;
        }
        let Some(chain) = program.anchor().await else { continue };
        changed |= program.put(chain, &forwarded(rules, program.ipv6), &rules.node).await?;
        // A newer engine has Docker's chain for IPv6 as well: what was elsewhere before is not left there.
        for other in CHAINS.into_iter().filter(|other| *other != chain) {
            changed |= program.clear(other, &rules.node).await?;
        }
    }
    Ok(changed)
}

/// Takes the rules away, wherever they are.
pub(super) async fn remove(node: &str) -> Result<(), EgressError> {
    for program in programs().await {
        for chain in CHAINS.into_iter().chain([INPUT]) {
            program.clear(chain, node).await?;
        }
    }
    Ok(())
}

/// The programs of this machine whose chains may be in use.
async fn programs() -> Vec<Program> {
    let mut found = Vec::new();
    for ([nft, legacy, plain], names_file) in BACKENDS.into_iter().zip(["ip_tables_names", "ip6_tables_names"]) {
        let ipv6 = plain == "ip6tables";
        let before = found.len();
        // Asking the legacy backend makes its tables, which then cost every packet.
        let legacy_in_use = legacy::in_use(&format!("/proc/thread-self/net/{names_file}"));
        for (name, in_use) in [(nft, true), (legacy, legacy_in_use)] {
            if in_use && ask(name, &["--version"]).await.is_some() {
                found.push(Program { name, ipv6 });
            }
        }
        if found.len() == before && ask(plain, &["--version"]).await.is_some() {
            found.push(Program { name: plain, ipv6 });
        }
    }
    found
}

impl Program {
    async fn ask(self, arguments: &[&str]) -> Option<String> {
        ask(self.name, &[&LOCK, arguments].concat()).await
    }

    async fn change(self, operation: &str, chain: &str, rule: &[String]) -> Result<(), EgressError> {
        let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
        run(self.name, &[&LOCK, [operation, chain].as_slice(), &rule].concat(), "").await
    }

    /// The chain that needs rules: Docker's, or `FORWARD` where its policy drops and there is no Docker's.
    async fn anchor(self) -> Option<&'static str> {
        if self.ask(&["-S", DOCKER_CHAIN]).await.is_some() {
            return Some(DOCKER_CHAIN);
        }
        let forward = self.ask(&["-S", "FORWARD"]).await?;
        forward.lines().any(|line| line == "-P FORWARD DROP").then_some("FORWARD")
    }

    /// Whether others have anything in the chain for what this machine itself is asked, ufw's policy for one.
    async fn refuses_questions(self, node: &str) -> bool {
        let input = self.ask(&["-S", INPUT]).await.unwrap_or_default();
        input.lines().any(|line| line != "-P INPUT ACCEPT" && !is_own(&words(line), node))
    }

    /// Has the rules, and no others of this node, in a chain; whether anything was amiss.
    async fn put(self, chain: &str, wanted: &[Vec<String>], node: &str) -> Result<bool, EgressError> {
        let present = self.own_rules(chain, node).await;
        if present.len() == wanted.len() && self.has_all(chain, wanted).await {
            return Ok(false);
        }
        for rule in &present {
            self.change("-D", chain, rule).await?;
        }
        for rule in wanted {
            self.change("-I", chain, rule).await?;
        }
        Ok(true)
    }

    /// Takes this node's rules out of a chain; whether there were any.
    async fn clear(self, chain: &str, node: &str) -> Result<bool, EgressError> {
        let rules = self.own_rules(chain, node).await;
        for rule in &rules {
            self.change("-D", chain, rule).await?;
        }
        Ok(!rules.is_empty())
    }

    /// Rules of a chain that bear this node's comment, without `-A CHAIN`.
    async fn own_rules(self, chain: &str, node: &str) -> Vec<Vec<String>> {
        let listing = self.ask(&["-S", chain]).await.unwrap_or_default();
        let rules = listing.lines().map(words).filter(|words| is_own(words, node));
        rules.filter_map(|words| words.get(2..).map(<[String]>::to_vec)).collect()
    }

    async fn has_all(self, chain: &str, rules: &[Vec<String>]) -> bool {
        for rule in rules {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            if self.ask(&[["-C", chain].as_slice(), &rule].concat()).await.is_none() {
                return false;
            }
        }
        true
    }
}

fn comment(node: &str) -> String {
    format!("skep:{node}")
}

fn is_own(words: &[String], node: &str) -> bool {
    words.windows(2).any(|pair| pair[0] == "--comment" && pair[1] == comment(node))
}

/// What the programs let out, and what comes back to it.
fn forwarded(rules: &EgressRules, ipv6: bool) -> [Vec<String>; 2] {
    let pool = if ipv6 { rules.container_pool6.to_string() } else { rules.container_pool4.to_string() };
    let (mark, veths) = (pass_mark(rules), format!("{VETH_PREFIX}+"));
    let out = ["-s", &pool, "-i", &veths, "-m", "mark", "--mark", &mark];
    let back = ["-d", &pool, "-o", &veths, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"];
    [accepted(&out, rules), accepted(&back, rules)]
}

/// What replicas ask the DNS address and the programs do not answer.
fn question(rules: &EgressRules) -> Vec<String> {
    let (dns, mark, veths) = (format!("{}/32", rules.dns), pass_mark(rules), format!("{VETH_PREFIX}+"));
    accepted(&["-d", &dns, "-i", &veths, "-m", "mark", "--mark", &mark], rules)
}

fn pass_mark(rules: &EgressRules) -> String {
    format!("0x{:x}/0x{:x}", rules.pass_mark, rules.mark_mask)
}

fn accepted(rule: &[&str], rules: &EgressRules) -> Vec<String> {
    let comment = comment(&rules.node);
    let named = ["-m", "comment", "--comment", &comment, "-j", "ACCEPT"];
    rule.iter().chain(&named).map(|word| (*word).to_owned()).collect()
}

/// Splits a line of `iptables -S`, which quotes what is not a plain word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_rules_are_split_as_they_were_given() {
        let line = r#"-A FORWARD -s 10.0.0.0/8 -m comment --comment "say \"hi\" there" -j ACCEPT"#;
        let expected =
            ["-A", "FORWARD", "-s", "10.0.0.0/8", "-m", "comment", "--comment", "say \"hi\" there", "-j", "ACCEPT"];
        assert_eq!(words(line), expected);
    }

    #[test]
    fn only_this_nodes_rules_are_its_own() {
        let rule = |comment: &str| words(&format!("-A DOCKER-USER -m comment --comment {comment} -j ACCEPT"));
        assert!(is_own(&rule("skep:n1"), "n1"));
        assert!(is_own(&rule("\"skep:n1\""), "n1"));
        assert!(!is_own(&rule("skep:n10"), "n1"));
        assert!(!is_own(&words("-A DOCKER-USER -j RETURN"), "n1"));
    }
}
