//! Layers of one program each.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::packages;
use crate::command;

/// busybox comes from the host's package.
pub(super) const BUSYBOX_RECIPE: &str = "busybox-static";
/// Prints what `getaddrinfo` finds.
pub(super) const MUSL_SOURCE: &str = include_str!("small/resolve.c");
/// Answers load and probes from inside a replica.
pub(super) const SERVE_SOURCE: &str = include_str!("small/serve.c");
/// Is deployed: well or ill, polite to its clients or not.
pub(super) const WEB_SOURCE: &str = include_str!("small/web.c");
/// Debian's own would ask for passwords.
const REGISTRY_CONFIG: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: '127.0.0.1:5000'}
";
/// Resolves and fetches.
pub(super) const GO_SOURCE: &str = include_str!("small/probe.go");

/// `/bin/busybox` and a link for every applet.
pub(super) fn busybox(root: &Path) -> Result<()> {
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for bin in ["sbin", "usr/bin", "usr/sbin"] {
        let link = root.join(bin);
        fs::create_dir_all(link.parent().context("a path in the image")?)?;
        symlink("/bin", link)?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).context("/bin/busybox: install busybox-static (`cargo xtask setup`)")?;
    for applet in command::run(Command::new(&busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// busybox, with musl's resolver as `resolve`, `serve` and `web`. Statically linked: the same code as in a dynamic one.
pub(super) fn musl(root: &Path) -> Result<()> {
    busybox(root)?;
    for (program, text) in [("resolve", MUSL_SOURCE), ("serve", SERVE_SOURCE), ("web", WEB_SOURCE)] {
        let source = root.join("source.c");
        fs::write(&source, text)?;
        let built = command::run(
            Command::new("musl-gcc").args(["-static", "-O1", "-o"]).arg(root.join("bin").join(program)).arg(&source),
        );
        built.context("musl-gcc: install musl-tools (`cargo xtask setup`)")?;
        fs::remove_file(source)?;
    }
    Ok(())
}

/// One Go program, no libc.
pub(super) fn go(root: &Path) -> Result<()> {
    let source = root.join("probe.go");
    fs::write(&source, GO_SOURCE)?;
    let mut go = Command::new("go");
    go.args(["build", "-o", "bin/probe", "probe.go"]).current_dir(root);
    go.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")]).env("GOCACHE", root.join("cache"));
    command::run(&mut go).context("go: install golang-go (`cargo xtask setup`)")?;
    fs::remove_dir_all(root.join("cache"))?;
    fs::remove_file(source)?;
    Ok(())
}

/// Everything the registry's layer is made of, but for the package's version.
pub(super) fn registry_recipe() -> String {
    [&packages::recipe(), REGISTRY_CONFIG].join("\n")
}

/// Docker's registry, from its package: not installed here, where it would start as a service at once.
pub(super) fn registry(root: &Path) -> Result<()> {
    packages::unpack(root, &["docker-registry"], packages::Source::Host)?;
    command::run(Command::new("ldconfig").arg("-r").arg(root))?;
    fs::write(root.join("etc/docker/registry/config.yml"), REGISTRY_CONFIG)?;
    Ok(())
}
