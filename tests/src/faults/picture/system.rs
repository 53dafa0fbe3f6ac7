//! `nft`, `ss`, `ps`, mounts, cgroups, files.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Names, Picture, array, documents, without};
use crate::node::Node;

/// Programs that come and go: tools of the test, of Docker's start of a container, of a repair.
const TRANSIENT: [&str; 14] = [
    "sh",
    "timeout",
    "nsenter",
    "ps",
    "cat",
    "ss",
    "find",
    "runc",
    "docker",
    "nft",
    "iptables",
    "ip6tables",
    "bpftool",
    "skepctl",
];

/// `find` to whom a directory that goes away under it is none; of others' it sees many. Anything else that it complains
/// of is an error.
const WALK: &str = "
walk() {
    { LC_ALL=C find \"$@\" 2>&1 >&3 | { ! grep -v ': No such file or directory$' >&2; } } 3>&1
}";

pub(super) fn read(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    firewall(node, picture, names).context("nft")?;
    sockets(node, picture, names).context("ss")?;
    processes(node, picture, names).context("ps")?;
    places(node, picture, names).context("find")
}

/// Rules with their place in the chain.
fn firewall(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    let shown = documents(&node.run(&["nft", "-j", "list", "ruleset"])?)?;
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for object in shown.iter().flat_map(|document| array(&document["nftables"])) {
        if object.get("metainfo").is_some() || is_dockers(object) {
            continue;
        }
        let mut object = without(object, &["handle", "packets", "bytes"]);
        let place = object.get_mut("rule").map(|rule| {
            let place = places.entry(format!("{} {} {}", rule["family"], rule["table"], rule["chain"])).or_default();
            *place += 1;
            if is_where_the_engine_has_it(rule) {
                rule["chain"] = "FORWARD, or the chain that an engine has for people".into();
            }
            format!("rule {place}: ")
        });
        picture.add(names.put(&format!("firewall: {}{object}", place.unwrap_or_default())));
    }
    Ok(())
}

/// A rule of skepd's for IPv6: only newer engines have a DOCKER-USER for that.
fn is_where_the_engine_has_it(rule: &Value) -> bool {
    let chain = rule["chain"].as_str();
    let ours = rule["expr"].to_string().contains("\"skep*\"");
    ours && rule["family"] == "ip6" && matches!(chain, Some("FORWARD" | "DOCKER-USER"))
}

/// Chains, and rules that Docker sets anew, in an order of its own, at each start. What is in DOCKER-USER belongs to
/// people, but for Docker's own last rule.
fn is_dockers(object: &Value) -> bool {
    const USER: &str = "DOCKER-USER";
    let (rule, chain) = (&object["rule"], &object["chain"]);
    let dockers = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("DOCKER") && name != USER);
    let returns = |part: &Value| part.get("return").is_some() || part.get("counter").is_some();
    let last = rule["chain"] == USER && array(&rule["expr"]).all(returns);
    let jumps =
        array(&rule["expr"]).any(|part| part["jump"]["target"].as_str().is_some_and(|to| to.starts_with("DOCKER")));
    // Among Docker's own are some without a name: those for its bridge.
    let bridge = rule.is_object() && rule.to_string().contains("\"docker0\"");
    jumps || bridge || last || dockers(&rule["chain"]) || chain["name"] == USER
}

/// Who listens, on the host and in the containers.
fn sockets(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    const SS: [&str; 2] = ["ss", "-Hlntup"];
    let mut all = vec![("host", node.run(&SS)?)];
    for (name, pid) in &names.namespaces {
        let net = format!("--net=/proc/{pid}/ns/net");
        all.push((name, node.run(&[&["nsenter", &net], &SS[..]].concat())?));
    }
    for (place, text) in all {
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // `users:(("serve",pid=1,fd=3))`; a client of the test is of another PID namespace and has none.
            let (Some(users), Some(address)) = (fields.get(6), fields.get(4)) else { continue };
            let who = users.split('"').nth(1).unwrap_or_default();
            picture.add(format!("{place}: {who} listens on {} {address}", fields[0]));
        }
    }
    Ok(())
}

fn processes(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for line in node.run(&["ps", "-eo", "stat=,args="])?.lines() {
        let Some((state, arguments)) = line.trim().split_once(char::is_whitespace) else { continue };
        let arguments = arguments.trim();
        // The same program may be started from another place after an upgrade.
        let (path, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let program = path.rsplit('/').next().unwrap_or_default();
        // `[kthreadd]` and what is dead already.
        if TRANSIENT.contains(&program) || program.starts_with('[') || state.starts_with('Z') {
            continue;
        }
        *counted.entry(names.put(format!("{program} {rest}").trim_end())).or_default() += 1;
    }
    for (line, count) in counted {
        // A server has a process for each connection.
        let count = if line.starts_with("serve ") { String::new() } else { format!("{count} × ") };
        picture.add(format!("process: {count}{line}"));
    }
    Ok(())
}

/// Mounts, cgroups, and the files of skepd's own directories.
fn places(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for line in node.run(&["cat", "/proc/1/mountinfo"])?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 1));
        let (Some(place), Some(kind)) = (fields.get(4), kind) else { continue };
        *counted.entry(names.put(&format!("mount: {kind} at {place}"))).or_default() += 1;
    }
    let name = node.machine().name();
    let (state, run) = (node.state_directory(), node.run_directory());
    let script = format!(
        "{WALK}
         ls -d {0} {1} >/dev/null
         walk /sys/fs/cgroup -type d -path '*/{name}/*' -printf 'cgroup: %p\\n'
         walk {0} {1} -printf 'file: %p, %M\\n'",
        state.display(),
        run.display()
    );
    for line in node.machine().shell(&script)?.lines() {
        *counted.entry(names.put(line)).or_default() += 1;
    }
    for (line, count) in counted {
        picture.add(if count == 1 { line } else { format!("{count} × {line}") });
    }
    Ok(())
}
