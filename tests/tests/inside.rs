//! Commands in replicas, connections to them, and their stop and start, by people on the node.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::images::Image;
use tests::{Node, Process, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);
const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];
/// Octets of what goes through a command.
const MUCH: usize = 3_000_000;

fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Musl, Image::Tools])?;
    let services = json!({ "services": {
        "web": {
            "image": Image::Musl.tag(), "command": ["web"], "deploy": { "replicas": 2 },
            "environment": { "WHO": "the service" }, "x-skep": { "port": 8080 },
        },
        "db": {
            "image": Image::Tools.tag(), "entrypoint": ["env", "FIRST=yes"], "command": ["sleep", "10000"],
            "stop_grace_period": "0s", "volumes": ["data:/data"],
        },
    }, "volumes": { "data": {} } });
    node.up("shop", "production", &services.to_string())?;
    Ok(node)
}

/// A line of the shell with skepctl in it.
fn line(node: &Node, before: &str, arguments: &str) -> Result<String> {
    Ok(format!("{before}{} {arguments}", node.skepctl_line(&PROJECT)?.join(" ")))
}

fn shell(node: &Node, line: &str) -> Result<Output> {
    node.output(&["sh", "-c", line])
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn a_command_reads_says_and_ends_as_it_would_here() -> Result<()> {
    let node = start()?;
    let command =
        "exec --user 65534 --workdir /tmp --env A=b web.2 sh -c 'cat; echo $WHO $A $(id -u) $(pwd) >&2; exit 7'";
    let ended = shell(&node, &line(&node, "echo typed | ", command)?)?;
    let said = (text(&ended.stdout), text(&ended.stderr), ended.status.code());
    ensure!(said == ("typed\n".into(), "the service b 65534 /tmp\n".into(), Some(7)), "{said:?}");
    // More than any buffer holds, both ways at once.
    let much = node.machine().directory().join("much").display().to_string();
    let before = format!("head -c {MUCH} /dev/urandom > {much}; ");
    let through = line(&node, &before, "exec web cat")? + &format!(" < {much} | cmp - {much}");
    let same = shell(&node, &through)?;
    ensure!(same.status.success(), "{}", text(&same.stderr));
    // A terminal, with the size that this one has.
    let terminal = line(&node, "", "exec db.1 bash -c \"tty; until stty size | grep 33; do :; done\"")?;
    let typescript = format!("stty rows 33 columns 99; {terminal}");
    let shown =
        shell(&node, &format!("script --quiet --return --command '{}' /dev/null", typescript.replace('\'', "\"")))?;
    let shown = text(&shown.stdout);
    ensure!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
    // What does not work says why.
    for (command, says) in [
        ("exec wbe true", "perhaps web was meant"),
        ("exec web.3 true", "there is no replica of shop/production/web.3"),
        ("exec web no-such-program", "no-such-program"),
    ] {
        let refused = shell(&node, &line(&node, "", command)?)?;
        let said = text(&[refused.stdout, refused.stderr].concat());
        ensure!(!refused.status.success() && said.contains(says), "{command}: {said}");
    }
    // Whoever goes leaves nothing that waits for it.
    let pipe = node.machine().directory().join("pipe").display().to_string();
    let before = format!("mkfifo {pipe}; exec 3<>{pipe}; timeout 3 ");
    let gone = shell(&node, &(line(&node, &before, "exec web.2 cat")? + " <" + &pipe))?;
    ensure!(!gone.status.success());
    let web = node.replica("shop", "production", "web", 2)?;
    wait_for("cat has read the end", PATIENCE, || {
        let processes = web.exec(&["ps", "-o", "comm"])?;
        Ok((!processes.lines().any(|name| name == "cat")).then_some(()))
    })
}

#[test]
fn a_command_of_its_own_is_a_guest_of_its_service() -> Result<()> {
    let node = start()?;
    // It reads, says and ends as it would here; its variables and its entrypoint are the service's.
    let command = "run --user 65534 --env A=b web sh -c 'cat; echo $WHO $A $(id -u) $(hostname) >&2; exit 7'";
    let ended = shell(&node, &line(&node, "echo typed | ", command)?)?;
    let (said, told) = (text(&ended.stdout), text(&ended.stderr));
    let (notes, last) = told.trim_end().rsplit_once('\n').unwrap_or(("", told.trim_end()));
    ensure!(notes.lines().all(|note| note.contains("waiting for its container")), "{told}");
    let heard = (said.as_str(), last, ended.status.code());
    ensure!(heard == ("typed\n", "the service b 65534 web-run-1", Some(7)), "{heard:?}");
    let written = shell(&node, &line(&node, "", "run db sh -c 'echo kept > /data/file; echo $FIRST $*' - x y")?)?;
    ensure!(text(&written.stdout) == "yes x y\n", "{written:?}");
    let db = node.replica("shop", "production", "db", 1)?;
    ensure!(db.exec(&["cat", "/data/file"])?.trim() == "kept");
    // It reaches whom its service reaches.
    let reaches =
        shell(&node, &line(&node, "", "run db curl -sS -o /dev/null --max-time 10 http://web.internal:8080/")?)?;
    ensure!(reaches.status.success(), "{reaches:?}");
    ended_with_it(&node)?;

    // Nobody is sent to it, and nobody waits for it.
    let (names, services) = (node.skepctl(&["names"])?, node.skepctl(&["services"])?);
    let held = hold(&node)?;
    ensure!((node.skepctl(&["names"])?, node.skepctl(&["services"])?) == (names, services));
    let shown = node.skepctl(&["ps"])?;
    ensure!(shown.lines().any(|row| row.contains("one-off") && row.contains("running")), "{shown}");
    node.skepctl(&[&PROJECT[..], &["scale", "web", "3"]].concat())?;
    // It goes with whoever asked for it, however he goes; or with the service.
    held.signal(Signal::SIGKILL)?;
    ended_with_it(&node)?;
    let mut held = hold(&node)?;
    node.kill_skepd()?;
    ensure!(!held.wait(PATIENCE)?.success());
    node.start_skepd()?;
    ended_with_it(&node)?;
    ensure!(node.replicas()?.iter().filter(|replica| replica.service == "web").count() == 3);

    for (arguments, says) in [
        ("run wbe true", "perhaps web was meant"),
        ("run web no-such-program", "no-such-program"),
        ("run web", "Usage: skepctl run"),
    ] {
        let refused = shell(&node, &line(&node, "", arguments)?)?;
        let said = text(&[refused.stdout, refused.stderr].concat());
        ensure!(!refused.status.success() && said.contains(says), "{arguments}: {said}");
    }
    let mut held = hold(&node)?;
    node.down("shop", "production")?;
    ensure!(!held.wait(PATIENCE)?.success());
    ended_with_it(&node)
}

/// A command that runs until somebody ends it.
fn hold(node: &Node) -> Result<Process> {
    let arguments = node.skepctl_line(&[&PROJECT[..], &["run", "web", "sleep", "10000"]].concat())?;
    let held = node.machine().spawn("held", &arguments)?;
    let runs = || {
        let replicas = node.replicas()?;
        Ok(replicas.iter().any(|replica| replica.deployment == 0 && replica.state == "running").then_some(()))
    };
    wait_for("the command runs", PATIENCE, runs)?;
    Ok(held)
}

/// No command's container is left.
fn ended_with_it(node: &Node) -> Result<()> {
    wait_for("containers of commands are gone", PATIENCE, || {
        let left = node.docker(&["ps", "--all", "--quiet", "--filter", "label=skep.deployment=0"])?;
        let is_known = node.replicas()?.iter().any(|replica| replica.deployment == 0);
        Ok((left.trim().is_empty() && !is_known).then_some(()))
    })
}

#[test]
fn files_are_copied_out_and_in() -> Result<()> {
    let node = start()?;
    let web = node.replica("shop", "production", "web", 2)?;
    let here = node.machine().directory().join("copies");
    fs::create_dir_all(here.join("tree/below"))?;
    fs::write(here.join("tree/below/file"), "one\n")?;
    fs::write(here.join("much"), vec![7; 40 * MUCH])?;
    let cp = |arguments: &str| -> Result<Output> {
        shell(&node, &line(&node, &format!("cd {} && ", here.display()), &format!("cp {arguments}"))?)
    };
    let copied = |arguments: &str| -> Result<()> {
        let ended = cp(arguments)?;
        ensure!(ended.status.success(), "cp {arguments}: {}", text(&ended.stderr));
        Ok(())
    };
    // In: onto nothing, into a directory, what is in one, over a file; root has it.
    for arguments in ["tree web.2:/named", "tree web.2:/named", "tree/. web.2:/tmp", "much web.2:/tmp/much"] {
        copied(arguments)?;
    }
    for path in ["/named/below/file", "/named/tree/below/file", "/tmp/below/file"] {
        ensure!(web.exec(&["cat", path])?.trim() == "one", "{path}");
    }
    ensure!(web.exec(&["stat", "-c", "%u %s", "/tmp/much"])?.trim() == format!("0 {}", 40 * MUCH));
    web.exec(&["sh", "-c", "ln -s /tmp /named/way; echo two > /named/below/file"])?;
    copied("tree/below/file web.2:/named/way/through")?;
    ensure!(web.exec(&["cat", "/tmp/through"])?.trim() == "one");
    // Out: the same, and over a pipe.
    copied("web.2:/named named")?;
    copied("web.2:/named/below/file tree/below/file")?;
    copied("web.2:/tmp/much again")?;
    ensure!(fs::read_to_string(here.join("named/below/file"))? == "two\n");
    ensure!(fs::read_to_string(here.join("tree/below/file"))? == "two\n");
    ensure!(fs::read_link(here.join("named/way"))?.as_os_str() == "/tmp");
    ensure!(fs::read(here.join("again"))? == fs::read(here.join("much"))?);
    let piped = shell(&node, &line(&node, "", "cp web.2:/named - | tar -tf -")?)?;
    ensure!(text(&piped.stdout).lines().any(|name| name == "named/below/file"), "{piped:?}");
    let before = format!("tar -cf - -C {} tree | ", here.display());
    ensure!(shell(&node, &line(&node, &before, "cp - web.2:/mnt")?)?.status.code() == Some(1), "there is no /mnt");
    ensure!(shell(&node, &line(&node, &before, "cp - web.2:/named/below")?)?.status.success());
    ensure!(web.exec(&["cat", "/named/below/tree/below/file"])?.trim() == "two");
    // What does not work says why, and leaves what was there.
    for (arguments, says) in [
        ("web.2:/nowhere named", "there is no /nowhere in the container"),
        ("nowhere web.2:/named", "nowhere: No such file or directory"),
        ("named web.2:/named/below/file", "/named/below/file is no directory"),
        ("named web.2:/none/such", "there is no /none/ in the container"),
        ("web.2:/named none/such/place", "none/such is no directory"),
        ("wbe:/named named", "perhaps web was meant"),
        ("named other", "one of the two must be of a service"),
        ("/dev/null web.2:/null", "it is neither a file, a directory nor a link"),
    ] {
        let refused = cp(arguments)?;
        let said = text(&refused.stderr);
        ensure!(refused.status.code() == Some(1) && said.contains(says), "cp {arguments}: {said}");
    }
    ensure!(web.exec(&["cat", "/named/below/file"])?.trim() == "two");
    Ok(())
}

#[test]
fn a_port_is_reached_from_here_and_by_nobody_else() -> Result<()> {
    let node = start()?;
    let arguments: Vec<String> = node.skepctl_line(&[&PROJECT[..], &["forward", "web.2", "18080"]].concat())?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _forwards = node.machine().spawn("forward", &arguments)?;
    let log = node.machine().directory().join("forward.log");
    let said = wait_for("it listens", PATIENCE, || {
        let said = fs::read_to_string(&log)?;
        Ok(said.contains('\n').then_some(said))
    })?;
    ensure!(said == "127.0.0.1:18080 is web.2 until Ctrl-C\n", "{said}");
    let curl = |url: &str| node.output(&["curl", "-sS", "--fail", "--max-time", "5", url]);
    for _ in 0..20 {
        let answered = curl("http://127.0.0.1:18080/")?;
        ensure!(answered.status.success(), "{}", text(&answered.stderr));
    }
    // Not by the node's own address, nor by the replica's.
    let web = node.replica("shop", "production", "web", 2)?;
    for to in [format!("http://{}:18080/", node.address4()), format!("http://{}:8080/", web.address()?)] {
        let answered = curl(&to)?;
        ensure!(!answered.status.success(), "{to}: {}", text(&answered.stdout));
    }
    for (command, says) in [
        ("forward db", "does not say which port it listens on"),
        ("forward db:99 18099", "does not answer on port 99"),
        ("forward web:8080 18080", "cannot listen on 127.0.0.1:18080"),
    ] {
        let refused = shell(&node, &line(&node, "timeout 10 ", command)?)?;
        let said = text(&[refused.stdout, refused.stderr].concat());
        ensure!(!refused.status.success() && said.contains(says), "{command}: {said}");
    }
    Ok(())
}

#[test]
fn services_stop_start_again_and_start_anew() -> Result<()> {
    let node = start()?;
    let skepctl = |arguments: &[&str]| node.skepctl(&[&PROJECT[..], arguments].concat());
    // Those of services: a replica's goes with it.
    let names = || -> Result<Vec<String>> {
        let of_service = |line: &&str| !line.contains(" 1.") && !line.contains(" 2.");
        Ok(skepctl(&["names"])?.lines().filter(of_service).map(str::to_owned).collect())
    };
    let containers = |service: &str| -> Result<Vec<Option<String>>> {
        let replicas = node.replicas()?.into_iter().filter(|replica| replica.service == service);
        Ok(replicas.map(|replica| replica.container).collect())
    };
    let db = node.replica("shop", "production", "db", 1)?;
    let ask =
        |vip: &str| db.exec_output(&["curl", "-sS", "--include", "--max-time", "5", &format!("http://{vip}:8080/")]);
    let vip = node.replica("shop", "production", "web", 1)?.vip()?.to_owned();
    ensure!(text(&ask(&vip)?.stdout).contains("HTTP"));
    let (before, first) = (names()?, containers("web")?);
    let all: Value = serde_json::from_str(&skepctl(&["inspect", "web"])?)?;
    let count = |part: &str| all[part].as_array().map(Vec::len);
    ensure!(all["service"]["vip"] == vip.as_str() && all["spec"]["environment"]["WHO"] == "the service", "{all}");
    ensure!([count("deployments"), count("replicas"), count("endpoints")] == [Some(1), Some(2), Some(2)], "{all}");
    ensure!(
        all["names"].as_array().is_some_and(|names| names.iter().any(|it| it["name"] == "2.web.internal")),
        "{all}"
    );

    skepctl(&["stop", "web"])?;
    ensure!(containers("web")?.is_empty() && containers("db")?.len() == 1);
    ensure!(!text(&ask(&vip)?.stdout).contains("HTTP") && names()? == before, "{:?}", names()?);
    // Once more is nothing to do, and must not forget how many there were.
    skepctl(&["stop", "web"])?;
    skepctl(&["start", "web"])?;
    let second = containers("web")?;
    ensure!(second.len() == 2 && names()? == before, "{second:?}");
    ensure!(text(&ask(&vip)?.stdout).contains("HTTP"));

    skepctl(&["restart", "web"])?;
    let third = containers("web")?;
    ensure!(third.len() == 2 && third.iter().all(|it| !first.contains(it) && !second.contains(it)), "{third:?}");
    let refused = node.skepctl_output(&[&PROJECT[..], &["stop", "web", "bd"]].concat())?;
    ensure!(text(&refused.stderr).contains("perhaps db was meant") && containers("web")? == third, "half done");
    // What others wait for stays, and what is removed is as if the file did not say it.
    let services = json!({ "services": {
        "web": { "image": Image::Musl.tag(), "command": ["web"], "deploy": { "replicas": 2 }, "depends_on": ["db"] },
        "db": { "image": Image::Tools.tag(), "command": ["sleep", "10000"], "stop_grace_period": "0s" },
    } });
    node.up("shop", "production", &services.to_string())?;
    for (arguments, says) in [
        (&["rm", "db"][..], "depends_on"),
        (&["rm", "bd"], "perhaps db was meant"),
        (&["rm", "web", "db"], "`skepctl down`"),
    ] {
        let refused = node.skepctl_output(&[&PROJECT[..], arguments].concat())?;
        let said = text(&refused.stderr);
        ensure!(!refused.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    skepctl(&["rm", "web"])?;
    ensure!(containers("web")?.is_empty() && containers("db")?.len() == 1);
    ensure!(!skepctl(&["services"])?.contains(" web "), "it has no address any more");
    // All of them, and what the file says brings them back.
    node.up("shop", "production", &services.to_string())?;
    skepctl(&["stop"])?;
    ensure!(node.replicas()?.is_empty());
    skepctl(&["start"])?;
    ensure!(containers("web")?.len() == 2 && containers("db")?.len() == 1);
    Ok(())
}
