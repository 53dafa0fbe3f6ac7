//! ufw and firewalld themselves, as somebody turns them on, reloads them, and turns them off again.
//!
//! What stays inside an environment passes no firewall. What leaves it, and questions about outside names, have to get
//! through again.

use std::time::Duration;

use anyhow::Result;
use tests::Lan;
use tests::faults::{Cost, Fault, Scene, Visitor};
use tests::firewalls::Firewalls;

use crate::drift::{KEEP_OTHERS, PUT_OTHERS_BACK, on_host, web};

/// From the tool's last word to the last trace of what it did to us.
const WITHIN: Duration = Duration::from_secs(5);

const DNS: &str = "10.224.0.53";
/// Where people put programs of their own, which come before others.
const PROGRAMS: &str = "/usr/local/sbin";
/// What firewalld's root has in `/run`.
const RUN: &str = "DIRECTORY/firewalls/run";
/// D-Bus where firewalld is.
const COMMAND: &str = "#!/bin/sh
exec nsenter --target \"$(cat DIRECTORY/firewalls/run/firewalld.pid)\" --mount --root busctl \"$@\"";

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "ufw enabled and reloaded, then disabled",
        inject: enable_ufw,
        within: WITHIN,
        cost: Cost::Nothing,
        visitor: Some(Visitor { is_his: is_ufws, demand: leads_outside, leave: disable_ufw }),
    },
    Fault {
        name: "firewalld started and reloaded, then stopped",
        inject: start_firewalld,
        within: WITHIN,
        cost: Cost::Nothing,
        visitor: Some(Visitor { is_his: is_firewallds, demand: leads_outside, leave: stop_firewalld }),
    },
];

fn enable_ufw(scene: &Scene) -> Result<()> {
    let firewalls = Firewalls::on(scene.node.machine())?;
    on_host(scene, KEEP_OTHERS)?;
    firewalls.shell("ufw --force enable")?;
    firewalls.shell("ufw reload").map(drop)
}

fn disable_ufw(scene: &Scene) -> Result<()> {
    let firewalls = Firewalls::on(scene.node.machine())?;
    firewalls.shell("ufw disable")?;
    // It leaves empty chains, and lets everything be forwarded.
    on_host(scene, PUT_OTHERS_BACK)?;
    firewalls.forget()
}

/// Its chains, the rules that jump there, the policies of the three chains that it shares with others, and the one rule
/// with which skepd answers the policy of INPUT.
fn is_ufws(difference: &str) -> bool {
    let has = |part: &str| difference.contains(part);
    let is_policy = has("\"hook\":") && has("\"table\":\"filter\"");
    let is_answer = has("\"chain\":\"INPUT\"") && has("\"skep*\"") && has(DNS);
    has(": firewall: ") && (has("\"ufw") || is_policy || is_answer)
}

fn start_firewalld(scene: &Scene) -> Result<()> {
    let firewalls = Firewalls::on(scene.node.machine())?;
    on_host(scene, KEEP_OTHERS)?;
    on_host(
        scene,
        &format!(
            "mount -t tmpfs tmpfs {PROGRAMS}
             printf '%s\\n' '{COMMAND}' >{PROGRAMS}/busctl
             chmod +x {PROGRAMS}/busctl"
        ),
    )?;
    firewalls.shell(
        "exec >/run/log 2>&1
         dbus-daemon --config-file=/etc/bus.conf
         firewalld
         timeout 30 sh -c 'until firewall-cmd --state; do sleep 0.1; done'
         firewall-cmd --reload
         firewall-cmd --complete-reload",
    )?;
    Ok(())
}

fn stop_firewalld(scene: &Scene) -> Result<()> {
    on_host(
        scene,
        &format!(
            "for file in {RUN}/firewalld.pid {RUN}/dbus/pid; do
                 pid=$(cat $file)
                 kill $pid
                 timeout 10 sh -c \"while kill -0 $pid; do sleep 0.05; done\" 2>/dev/null
             done
             umount {PROGRAMS}"
        ),
    )?;
    // It has removed what Docker had in the chains of iptables.
    on_host(scene, PUT_OTHERS_BACK)?;
    Firewalls::on(scene.node.machine())?.forget()
}

/// Its table, its processes, its program, and what it deletes with everything in iptables' tables: Docker's chains, and
/// what skepd has in them, which nothing refuses any more.
fn is_firewallds(difference: &str) -> bool {
    let is_rules = difference.contains(": firewall: ") && difference.contains("\"firewalld\"");
    let is_process = difference.contains(": process: ")
        && ["dbus-daemon", "firewalld", "firewall-cmd"].iter().any(|program| difference.contains(program));
    let is_deleted = difference.starts_with("missing: firewall: ")
        && ["\"family\":\"ip\"", "\"family\":\"ip6\""].iter().any(|family| difference.contains(family));
    is_rules || is_deleted || is_process || difference.ends_with(&format!(": mount: tmpfs at {PROGRAMS}"))
}

/// A replica reaches the internet and resolves its names.
fn leads_outside(scene: &Scene) -> Result<()> {
    let netns = web(scene)?.netns()?;
    netns.run(&format!("busybox ping -c 1 -W 1 {}", Lan::OUTSIDE4))?;
    netns.run(&format!("busybox ping -c 1 -W 1 {}", Lan::OUTSIDE6))?;
    netns.run(&format!("dig +tries=1 +time=1 @{DNS} {}", Lan::OUTSIDE))?;
    netns.run(&format!("dig +tcp +tries=1 +time=1 @{DNS} {}", Lan::OUTSIDE)).map(drop)
}
