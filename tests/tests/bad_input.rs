//! Bad input of every kind: an error of one line that names the thing and the way out, and nothing half done.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::{Node, wait_for};

/// What is wrong with a compose file, and what the error must name.
struct Refused {
    what: &'static str,
    compose: &'static str,
    names: &'static [&'static str],
}

const REFUSED: &[Refused] = &[
    Refused { what: "no YAML", compose: "services: ]", names: &["compose.yaml:1"] },
    Refused { what: "no services", compose: "volumes: {a: }", names: &["compose.yaml", "services"] },
    Refused {
        what: "an unknown key, with its line and a suggestion",
        compose: "services:\n  web:\n    imagee: busybox:latest\n",
        names: &["compose.yaml:3", "imagee", "image"],
    },
    Refused {
        what: "a value of the wrong type",
        compose: "services:\n  web:\n    image: busybox:latest\n    deploy: {replicas: many}\n",
        names: &["compose.yaml:4", "replicas", "many"],
    },
    Refused {
        what: "privileged",
        compose: "services:\n  web:\n    image: busybox:latest\n    privileged: true\n",
        names: &["compose.yaml:4", "privileged"],
    },
    Refused {
        what: "the host's network",
        compose: "services:\n  web:\n    image: busybox:latest\n    network_mode: host\n",
        names: &["compose.yaml:4", "network_mode"],
    },
    Refused {
        what: "the Docker socket",
        compose: "services:\n  web:\n    image: busybox:latest\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n",
        names: &["compose.yaml:4", "docker.sock"],
    },
    Refused {
        what: "a capability that voids isolation",
        compose: "services:\n  web:\n    image: busybox:latest\n    cap_add: [SYS_ADMIN]\n",
        names: &["compose.yaml:4", "SYS_ADMIN"],
    },
    Refused {
        what: "no image, with the remedy",
        compose: "services:\n  web:\n    command: [serve]\n",
        names: &["compose.yaml:3", "no image", "name one in image"],
    },
    Refused {
        what: "a name clash after normalisation",
        compose: "services:\n  My API: {image: 'busybox:latest'}\n  my-api: {image: 'busybox:latest'}\n",
        names: &["compose.yaml:3", "My API", "my-api"],
    },
    Refused {
        what: "a name too long for DNS",
        compose: "services:\n  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: {image: 'busybox:latest'}\n",
        names: &["compose.yaml:2", "63"],
    },
    Refused {
        what: "a missing variable that is required",
        compose: "services:\n  web:\n    image: ${IMAGE_THAT_IS_NOT_SET:?set it to the web image}\n",
        names: &["compose.yaml:3", "IMAGE_THAT_IS_NOT_SET", "set it to the web image"],
    },
    Refused {
        what: "a network that is not declared",
        compose: "services:\n  web:\n    image: busybox:latest\n    networks: [back]\n",
        names: &["compose.yaml:4", "back"],
    },
    Refused {
        what: "a dependency cycle",
        compose: "services:\n  a: {image: 'busybox:latest', depends_on: [b]}\n  b: {image: 'busybox:latest', depends_on: [a]}\n",
        names: &["compose.yaml", "depends_on"],
    },
];

#[test]
fn a_bad_compose_file_is_refused_by_line_and_nothing_is_done() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    for case in REFUSED {
        let file = node.compose_file("shop", "production", case.compose)?;
        let output = node.skepctl_output(&["-p", "shop", "up", "-f", &file])?;
        expect_error(case.what, &output, case.names)?;
        nothing_done(&node, case.what)?;
    }
    Ok(())
}

#[test]
fn what_is_replaced_is_said_with_its_line_and_the_remedy_and_the_rest_comes_up() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    let compose = "
services:
  web:
    image: busybox:latest
    command: [sleep, inf]
    ports: ['80:80']
";
    let file = node.compose_file("shop", "production", compose)?;
    let output = node.skepctl_output(&["-p", "shop", "up", "--wait", "-f", &file])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = |line: &str| ["compose.yaml:6", "ports", "skepctl forward"].iter().all(|name| line.contains(name));
    ensure!(output.status.success() && stderr.lines().any(named), "{}: {stderr}", output.status);
    Ok(())
}

#[test]
fn a_good_file_beside_a_bad_one_stays_up() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", "services: {web: {image: 'busybox:latest', command: [sleep, inf]}}")?;
    let before = node.docker(&["ps", "--no-trunc", "--quiet"])?;
    let file = node.compose_file("shop", "production", REFUSED[2].compose)?;
    expect_error("a bad change", &node.skepctl_output(&["-p", "shop", "up", "-f", &file])?, REFUSED[2].names)?;
    ensure!(node.docker(&["ps", "--no-trunc", "--quiet"])? == before, "containers changed");
    Ok(())
}

#[test]
fn an_unknown_image_fails_by_name_and_the_rest_of_the_environment_comes_up() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    let compose = "
services:
  good: {image: 'busybox:latest', command: [sleep, inf]}
  bad: {image: 'localhost:1/no-such-image:latest'}
";
    let file = node.compose_file("shop", "production", compose)?;
    let output = node.skepctl_output(&["-p", "shop", "up", "--wait", "-f", &file])?;
    expect_error("an unknown image", &output, &["bad", "localhost:1/no-such-image:latest"])?;
    node.replica("shop", "production", "good", 1)?;
    node.down("shop", "production")?;
    nothing_done(&node, "down after a failure")
}

#[test]
fn a_client_without_a_daemon_or_without_permission_is_told_what_to_do() -> Result<()> {
    let node = Node::start()?;
    let socket = node.socket().display().to_string();
    let skepctl = tests::paths::program("skepctl")?.display().to_string();
    // The path to the program must be open to nobody as well.
    node.run(&["cp", &skepctl, "/run/skepctl"])?;
    let nobody =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/skepctl", "--socket", &socket, "ps"];
    node.run(&[
        "chmod",
        "o+x",
        &node.machine().directory().display().to_string(),
        &node.run_directory().display().to_string(),
    ])?;
    expect_error("no permission", &node.output(&nobody)?, &[&socket, "group"])?;
    node.stop_skepd()?;
    expect_error("no daemon", &node.skepctl_output(&["ps"])?, &[&socket, "skepd"])?;
    Ok(())
}

#[test]
fn skepd_says_what_the_host_lacks_and_how_to_mend_it() -> Result<()> {
    let node = Node::start()?;
    let line = node.skepd_command_line()?;
    let with = |replace: &[(&str, &str)]| -> Result<Vec<String>> {
        let mut line = line.clone();
        for (option, value) in replace {
            let at = line.iter().position(|word| word == option).with_context(|| format!("no {option} in {line:?}"))?;
            line[at + 1] = (*value).to_owned();
        }
        Ok(line)
    };
    let skepd = |node: &Node, replace: &[(&str, &str)]| -> Result<Output> {
        node.output(&with(replace)?.iter().map(String::as_str).collect::<Vec<_>>())
    };
    // An answer: from here on the node's own pins are there.
    node.replicas()?;
    let state = node.state_directory().display().to_string();
    let other = node.machine().directory().join("other");
    let (other_state, other_run) = (other.join("state").display().to_string(), other.join("run").display().to_string());
    let apart: &[(&str, &str)] = &[("--state-dir", &other_state), ("--run-dir", &other_run)];

    let pins = skepd(&node, &[("--run-dir", &other_run), ("--state-dir", &other_state)])?;
    expect_error("a second daemon on the same pins", &pins, &["/sys/fs/bpf/skep", "--bpffs"])?;
    expect_error("a second daemon on the same state", &skepd(&node, &[("--run-dir", &other_run)])?, &[&state])?;
    node.stop_skepd()?;
    let copied = state_of_another_machine(&node)?;
    expect_error("another machine's state", &skepd(&node, &[])?, &[&state, &copied, "machine"])?;
    node.run(&["rm", &copied])?;
    expect_error("another node's state", &skepd(&node, &[("--node-name", "another")])?, &[&state, "another"])?;
    let no_docker = [apart, &[("--docker", "unix:///nowhere/docker.sock")]].concat();
    // It waits, for Docker may be slower to start than skepd, and says what for.
    let mut waiting = node.machine().spawn("waiting", &with(&no_docker)?)?;
    wait_for("what it waits for", Duration::from_secs(30), || {
        waiting.must_be_running()?;
        Ok(waiting.log()?.contains("Docker does not answer at unix:///nowhere/docker.sock").then_some(()))
    })?;
    drop(waiting);
    let no_bpffs = [apart, &[("--bpffs", "/run/no-bpffs")]].concat();
    expect_error("no bpffs", &skepd(&node, &no_bpffs)?, &["/run/no-bpffs", "bpffs"])?;

    node.run(&["cp", &line[0], "/run/skepd"])?;
    let options = line[1..].join(" ");
    let unprivileged = format!("exec setpriv --reuid=65534 --regid=65534 --clear-groups /run/skepd {options}");
    expect_error("no root", &node.output(&["sh", "-c", &unprivileged])?, &["root"])?;
    let no_cgroup = format!("umount --lazy --recursive /sys/fs/cgroup && exec {} {options}", line[0]);
    expect_error("no cgroup2", &node.output(&["unshare", "--mount", "sh", "-c", &no_cgroup])?, &["cgroup2", "mount"])?;
    nothing_pinned_elsewhere(&node)
}

/// Makes the state look like another machine's, as a copy of a disk does; gives the file that says which it is of.
fn state_of_another_machine(node: &Node) -> Result<String> {
    let file = node.state_directory().join("machine-id").display().to_string();
    let known = node.run(&["cat", &file])?;
    ensure!(known == node.run(&["cat", "/etc/machine-id"])?, "{file}: {known}");
    node.machine().shell(&format!("echo 0123456789abcdef0123456789abcdef >{file}"))?;
    Ok(file)
}

/// A failure of at least one line on standard error, each short, one of which names everything in `names`.
fn expect_error(what: &str, output: &Output, names: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{what}: succeeded: {}", String::from_utf8_lossy(&output.stdout));
    ensure!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{what}: a panic: {stderr}");
    let named = stderr.lines().any(|line| names.iter().all(|name| line.contains(name)));
    ensure!(named, "{what}: no line names all of {names:?}:\n{stderr}");
    println!("{what}:\n    {}", stderr.trim_end().replace('\n', "\n    "));
    Ok(())
}

/// No replica, container, volume or veth.
fn nothing_done(node: &Node, what: &str) -> Result<()> {
    let clean = || -> Result<Option<()>> {
        let replicas = node.replicas()?;
        let containers = node.docker(&["ps", "--all", "--quiet"])?;
        let volumes = node.docker(&["volume", "ls", "--quiet"])?;
        let veths = node.run(&["ip", "-br", "link", "show", "type", "veth"])?;
        let veths: Vec<_> = veths.lines().filter(|line| line.starts_with("skep")).collect();
        ensure!(
            replicas.is_empty() && containers.is_empty() && volumes.is_empty() && veths.is_empty(),
            "{what}: left {replicas:?} {containers} {volumes} {veths:?}"
        );
        Ok(Some(()))
    };
    // `down --wait` has waited; anything else must never have begun.
    clean().map(|_| ())
}

/// Failed starts pinned nothing: the only pins are the node's own.
fn nothing_pinned_elsewhere(node: &Node) -> Result<()> {
    let roots = node.run(&["find", "/sys/fs/bpf", "-mindepth", "1", "-maxdepth", "1", "-type", "d"])?;
    ensure!(roots == "/sys/fs/bpf/skep", "pins outside the node's directory: {roots}");
    wait_for("no skepd left", Duration::from_secs(10), || {
        Ok((!node.output(&["pgrep", "--exact", "skepd"])?.status.success()).then_some(()))
    })
}
