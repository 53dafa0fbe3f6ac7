//! What is still there after everything should be gone.

use std::process::Command;

use anyhow::Result;

/// What a machine left on this computer, a line each: processes, mounts, cgroups, files, links.
///
/// `name` may be a part of machines' names, such as `-<pid>-` for all of one process.
///
/// # Errors
/// No shell.
pub fn left_by(name: &str) -> Result<String> {
    let mut found = String::new();
    for (what, script) in [
        ("cgroup", format!("find /sys/fs/cgroup -maxdepth 4 -type d -name \"*{name}*\"")),
        ("file", format!("ls -d /var/tmp/*{name}*")),
        ("mount", format!("grep -e {name} /proc/self/mountinfo")),
        ("process", format!("pgrep --list-full --full -- {name}")),
        ("link", "ip -br link show type veth | grep -e uplink0 -e port1".to_owned()),
    ] {
        // The name is not on the shell's own command line, where pgrep would find it.
        let output = Command::new("sh").args(["-c", &script.replace(name, "$NAME")]).env("NAME", name).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            found += &format!("{what}: {line}\n");
        }
    }
    Ok(found)
}
