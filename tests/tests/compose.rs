//! What people bring along in their Compose files is what their containers have, and what those say is read.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::images::Image;
use tests::{Node, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);
const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];
const SERVE: &str = "image: 'musl:latest', command: [serve, web]";

/// A node, and a directory with files.
fn start(files: &[(&str, &str)]) -> Result<(Node, String)> {
    let node = Node::start()?;
    node.load(&[Image::Musl])?;
    let directory = node.machine().directory().join("files");
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().context("a name without a directory")?)?;
        fs::write(path, text)?;
    }
    Ok((node, directory.display().to_string()))
}

fn skepctl(node: &Node, arguments: &[&str]) -> Result<String> {
    node.skepctl(&[&PROJECT[..], arguments].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn files_of_several_directories_become_one_environment() -> Result<()> {
    let base = format!(
        "services:\n  web: {{{SERVE}, environment: {{A: one, B: one}}, depends_on: [db], networks: [front]}}\n  \
         debug: {{{SERVE}, profiles: [debug]}}\nnetworks: {{front: }}\ninclude: [parts/db.yaml]\n"
    );
    let over =
        "services: {web: {environment: {B: two}, extends: {file: common.yaml, service: base}, networks: [default]}}";
    let (node, directory) = start(&[
        ("compose.yaml", &base),
        ("compose.override.yaml", over),
        ("common.yaml", "services: {base: {environment: {C: three}, working_dir: /tmp}}"),
        ("parts/db.yaml", &format!("services: {{db: {{{SERVE}, env_file: vars}}}}")),
        ("parts/vars", "PLACE=parts\n"),
        ("deep/er/here", ""),
    ])?;
    // As Compose: the files of the nearest directory above that has some.
    let line = node.skepctl_line(&[&PROJECT[..], &["up", "--wait"]].concat())?;
    let inside = format!("cd {directory}/deep/er && {}", line.join(" "));
    node.run(&["sh", "-ec", &inside])?;
    let web = node.replica("shop", "production", "web", 1)?;
    let environment = web.exec(&["sh", "-c", "echo $A $B $C $(pwd)"])?;
    ensure!(environment.trim() == "one two three /tmp", "{environment}");
    let db = node.replica("shop", "production", "db", 1)?;
    ensure!(db.exec(&["sh", "-c", "echo $PLACE"])?.trim() == "parts");
    ensure!(node.replicas()?.iter().all(|replica| replica.service != "debug"), "a profile that nobody asked for");
    // The same by name, with a profile, is one service more and leaves the others as they are.
    let before = web.id()?.to_owned();
    let file = |name: &str| format!("{directory}/{name}");
    let (base, over) = (file("compose.yaml"), file("compose.override.yaml"));
    skepctl(&node, &["up", "--wait", "-f", &base, "-f", &over, "--profile", "debug"])?;
    node.replica("shop", "production", "debug", 1)?;
    ensure!(node.replica("shop", "production", "web", 1)?.id()? == before, "web was made anew");
    Ok(())
}

#[test]
fn a_container_is_set_up_as_its_file_says() -> Result<()> {
    let (node, _) = start(&[])?;
    let web = json!({
        "image": Image::Musl.tag(), "command": ["serve", "web"],
        "init": true, "read_only": true, "cap_add": ["IPC_LOCK"], "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"], "shm_size": "1m", "group_add": [4711], "oom_score_adj": 100,
        "tmpfs": ["/scratch:size=1m,mode=1770"], "ulimits": { "nofile": { "soft": 111, "hard": 222 } },
        "sysctls": { "net.core.somaxconn": 77, "kernel.shmmax": 4_096 },
        "logging": { "driver": "json-file", "options": { "max-size": "1m", "max-file": "2" } },
        "hostname": "box", "domainname": "example.com", "dns_search": ["example.com"],
        "extra_hosts": ["elsewhere=192.0.2.7", "elsewhere=2001:db8::7"],
    });
    let plain = json!({ "image": Image::Musl.tag(), "command": ["serve", "web"] });
    let services = json!({ "services": { "web": web, "plain": plain } });
    node.up("shop", "production", &services.to_string())?;
    let replica = node.replica("shop", "production", "web", 1)?;
    let inside = |command: &str| -> Result<String> { Ok(replica.exec(&["sh", "-c", command])?.trim().to_owned()) };
    let expected = [
        ("cat /proc/1/comm", "docker-init"),
        // CAP_IPC_LOCK is the 14th (capability.h), and nothing else.
        ("sed -n 's/^CapBnd:.//p' /proc/1/status", "0000000000004000"),
        ("sed -n 's/^NoNewPrivs:.//p' /proc/1/status", "1"),
        ("touch /new 2>&1 | grep -o 'Read-only'", "Read-only"),
        ("touch /scratch/new && stat -c %a /scratch", "1770"),
        ("df -k /scratch /dev/shm | awk 'NR > 1 { print $2 }' | tr '\\n' ' '", "1024 1024"),
        ("id -G | tr ' ' '\\n' | grep 4711", "4711"),
        ("cat /proc/1/oom_score_adj", "100"),
        ("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmax", "77\n4096"),
        ("hostname", "box"),
        ("grep -c elsewhere /etc/hosts", "2"),
        ("grep '^search' /etc/resolv.conf", "search internal example.com"),
    ];
    for (command, says) in expected {
        let found = inside(command).with_context(|| command)?;
        ensure!(found == says, "{command}: {found:?} instead of {says:?}");
    }
    ensure!(nofile(&node)? == "nofile 111 222", "{}", nofile(&node)?);
    let log = node.docker(&["inspect", "--format", "{{json .HostConfig.LogConfig}}", replica.id()?])?;
    let log: Value = serde_json::from_str(&log)?;
    ensure!(log == json!({ "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } }), "{log}");
    // Names are still the private network's, by the service and by what it calls itself.
    let plain = node.replica("shop", "production", "plain", 1)?;
    ensure!(plain.exec(&["nslookup", "web.internal"])?.contains(replica.vip()?));
    ensure!(inside("nslookup plain.internal")?.contains(plain.vip()?));
    // The same file again is nothing to do, and another limit is another container.
    let ids = (replica.id()?.to_owned(), plain.id()?.to_owned());
    node.up("shop", "production", &services.to_string())?;
    let id = |service: &str| -> Result<String> { Ok(node.replica("shop", "production", service, 1)?.id()?.to_owned()) };
    ensure!((id("web")?, id("plain")?) == ids, "containers were made anew for the same file");
    let changed = services.to_string().replace("\"soft\":111", "\"soft\":112");
    node.up("shop", "production", &changed)?;
    ensure!(id("web")? != ids.0 && id("plain")? == ids.1, "another limit");
    ensure!(nofile(&node)? == "nofile 112 222", "{}", nofile(&node)?);
    Ok(())
}

/// What the engine was told of web's open files. A process in there may see another soft limit: runc, in Go, raises its
/// own to the hard one, and sometimes hands that on (opencontainers/runc#4195).
fn nofile(node: &Node) -> Result<String> {
    let web = node.replica("shop", "production", "web", 1)?;
    let format = "{{range .HostConfig.Ulimits}}{{.Name}} {{.Soft}} {{.Hard}}{{end}}";
    Ok(node.docker(&["inspect", "--format", format, web.id()?])?.trim().to_owned())
}

#[test]
fn files_beside_the_compose_file_are_in_its_containers() -> Result<()> {
    let file = format!(
        "services:\n  web:\n    {}\n    volumes: ['./conf.d:/etc/conf.d:ro', './motd:/etc/motd']\n    configs: [site]\n    \
         secrets: [{{source: password, uid: '7', mode: '0400'}}]\n    deploy: {{replicas: 2}}\n  plain: {{{SERVE}}}\n\
         configs: {{site: {{content: 'for ${{SKEP_PROJECT:-nobody}}'}}}}\nsecrets: {{password: {{file: password}}}}\n",
        SERVE.replace(", command", "\n    command")
    );
    let secret = "correct horse battery staple";
    let (node, directory) = start(&[
        ("compose.yaml", &file),
        ("conf.d/deep/two", "2"),
        ("conf.d/one", "1"),
        ("motd", "hello"),
        ("password", secret),
    ])?;
    let file = format!("{directory}/compose.yaml");
    let up = || skepctl(&node, &["up", "--wait", "-f", &file]);
    let told = up()?;
    let replica = |number| node.replica("shop", "production", "web", number);
    let says = |number, command: &str, expected: &str| -> Result<()> {
        let said = replica(number)?.exec(&["sh", "-c", command])?;
        ensure!(said.trim() == expected, "{command} in web.{number}: {said:?} instead of {expected:?}");
        Ok(())
    };
    for number in [1, 2] {
        says(number, "cat /etc/conf.d/one /etc/conf.d/deep/two /etc/motd /site", "12hellofor nobody")?;
        says(
            number,
            "cat /run/secrets/password; stat -c ' %a %u %g' /run/secrets/password",
            &format!("{secret} 400 7 0"),
        )?;
        says(number, "stat -c %a /etc /run/secrets /etc/conf.d/deep | tr '\\n' ' '", "755 755 755")?;
    }

    // A change of a file is a deployment of who has it, and of nobody else; and back is the file of before.
    let id = |service: &str| -> Result<String> { Ok(node.replica("shop", "production", service, 1)?.id()?.to_owned()) };
    let before = (id("web")?, id("plain")?);
    up()?;
    ensure!((id("web")?, id("plain")?) == before, "made anew for the same files");
    fs::write(format!("{directory}/motd"), "changed")?;
    up()?;
    ensure!(id("web")? != before.0 && id("plain")? == before.1);
    says(1, "cat /etc/motd", "changed")?;
    skepctl(&node, &["rollback", "web", "--wait"])?;
    says(2, "cat /etc/motd", "hello")?;

    // A container that is made again has them too, and so has one whose maker died before it had any.
    let workload = id("web")?;
    node.docker(&["rm", "--force", &workload])?;
    wait_for("another container", PATIENCE, || Ok((id("web")? != workload).then_some(())))?;
    says(1, "cat /run/secrets/password", secret)?;

    // Nobody is told a secret: not by the plan, the log, the rows, the containers' settings.
    let settings = node.docker(&["inspect", replica(1)?.id()?])?;
    let rows = skepctl(&node, &["-o", "json", "ps"])?;
    for (place, text) in [("up", told), ("log", node.skepd_log()?), ("ps", rows), ("inspect", settings)] {
        ensure!(!text.contains(secret), "{place} tells the secret");
    }
    skepctl(&node, &["down", "--volumes", "--wait"])?;
    up()?;
    says(1, "cat /etc/motd", "changed")
}

#[test]
fn each_replica_has_a_name_of_its_own() -> Result<()> {
    let (node, _) = start(&[])?;
    let up = |version: &str, replicas: u32| {
        let services = json!({ "networks": { "back": null, "front": null }, "services": {
            "db": {
                "image": Image::Musl.tag(), "command": ["serve", "db"], "networks": ["back"],
                "environment": { "VERSION": version }, "deploy": { "replicas": replicas },
            },
            "web": { "image": Image::Musl.tag(), "command": ["serve", "web"], "networks": ["back"] },
            "apart": { "image": Image::Musl.tag(), "command": ["serve", "apart"], "networks": ["front"] },
        } });
        node.up("shop", "production", &services.to_string())
    };
    let resolves = |service: &str, name: &str| -> Result<String> {
        let output = node.replica("shop", "production", service, 1)?.exec_output(&["nslookup", name])?;
        Ok(said(&output))
    };
    up("1", 2)?;
    for number in [1, 2] {
        let replica = node.replica("shop", "production", "db", number)?;
        let told = resolves("web", &format!("{number}.db.internal"))?;
        ensure!(told.contains(replica.address()?) && told.contains(replica.address6()?), "{told}");
        ensure!(!told.contains(replica.vip()?), "{told}");
    }
    for (who, name) in [("apart", "1.db.internal"), ("web", "3.db.internal"), ("web", "0.db.internal")] {
        let told = resolves(who, name)?;
        ensure!(told.contains("NXDOMAIN"), "{name} for {who}: {told}");
    }
    let before = node.replica("shop", "production", "db", 2)?.address()?.to_owned();
    up("2", 2)?;
    let replica = node.replica("shop", "production", "db", 2)?;
    let told = resolves("web", "2.db.internal")?;
    ensure!(replica.address()? != before && told.contains(replica.address()?) && !told.contains(&before), "{told}");
    let rows = node.skepctl_json(&["-p", "shop", "names"])?;
    let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "2.db.internal"));
    ensure!(row.is_some_and(|row| row["vip"] == replica.address().unwrap_or_default()), "{rows:#}");
    up("2", 1)?;
    let gone = wait_for("the name of a replica that is gone is gone", PATIENCE, || {
        Ok(Some(resolves("web", "2.db.internal")?).filter(|told| told.contains("NXDOMAIN")))
    });
    gone.map(drop)
}

#[test]
fn a_service_waits_until_another_one_has_succeeded() -> Result<()> {
    let (node, _) = start(&[])?;
    let services = |ends: &str| {
        json!({ "services": {
            "migrate": {
                "image": Image::Musl.tag(), "command": ["sh", "-c", format!("until nc -l -p 99; do :; done; exit {ends}")],
            },
            "web": {
                "image": Image::Musl.tag(), "command": ["serve", "web"],
                "depends_on": { "migrate": { "condition": "service_completed_successfully" } },
            },
        } })
        .to_string()
    };
    let waits = |environment: &str, told: &str| {
        wait_for(&format!("web of {environment} {told}"), PATIENCE, || {
            let rows = node.skepctl_json(&["-p", "shop", "-e", environment, "ps"])?;
            let rows = rows.as_array().context("no list")?;
            let is =
                |row: &Value| row["service"] == "web" && row["message"].as_str().is_some_and(|it| it.contains(told));
            if rows.iter().any(is) { Ok(Some(())) } else { Err(anyhow::anyhow!("{rows:?}")) }
        })
    };
    for (environment, ends) in [("production", "0"), ("staging", "3")] {
        let file = node.compose_file("shop", environment, &services(ends))?;
        node.skepctl(&["-p", "shop", "-e", environment, "up", "--no-wait", "-f", &file])?;
        waits(environment, "waits for migrate to end with status 0")?;
        // Its sandbox is made meanwhile, and of each step it is told that it starts.
        wait_for("why tells that web waits", PATIENCE, || {
            let told = said(&node.skepctl_output(&["-p", "shop", "-e", environment, "why", "web", "migrate:99"])?);
            let waits = told.contains("waits for migrate to end with status 0");
            if waits { Ok(Some(())) } else { Err(anyhow::anyhow!("{told}")) }
        })?;
        // Now it may end, and whoever tells it so ends with it.
        let migrate = node.replica("shop", environment, "migrate", 1)?;
        migrate.exec_output(&["sh", "-c", "echo | nc 127.0.0.1 99"])?;
    }
    node.replica("shop", "production", "web", 1)?;
    wait_for("migrate of staging has failed", PATIENCE, || {
        let rows = node.skepctl_json(&["-p", "shop", "-e", "staging", "ps"])?;
        let is = |row: &Value| {
            row["service"] == "migrate" && row["state"] == "failed" && row["message"].to_string().contains("status 3")
        };
        let rows = rows.as_array().context("no list")?;
        if rows.iter().any(is) { Ok(Some(())) } else { Err(anyhow::anyhow!("{rows:#?}")) }
    })?;
    let web = node.replicas()?.into_iter().find(|it| it.environment == "staging" && it.service == "web");
    ensure!(web.as_ref().is_none_or(|web| web.state != "running"), "{web:?}");
    Ok(())
}

#[test]
fn what_replicas_say_is_told_in_its_order_and_followed() -> Result<()> {
    let (node, _) = start(&[])?;
    let speaks = |words: &str| {
        let script = format!("for i in 1 2 3; do echo {words} $$i; sleep 0.2; done; echo oh >&2; exec sleep 1000");
        json!({ "image": Image::Musl.tag(), "command": ["sh", "-c", script], "stop_grace_period": "0s" })
    };
    let mut web = speaks("web");
    web["deploy"] = json!({ "replicas": 2 });
    let file = |words: &str| json!({ "services": { "web": web, "db": speaks(words) } }).to_string();
    node.up("shop", "production", &file("one"))?;
    let lines = wait_for("everything is said", PATIENCE, || {
        let told = node.skepctl(&[&["-o", "json"], &PROJECT[..], &["logs"]].concat())?;
        let lines: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((lines.len() == 12).then_some(lines))
    })?;
    let times: Vec<&str> = lines.iter().filter_map(|line| line["time"].as_str()).collect();
    ensure!(times.len() == 12 && times.is_sorted(), "{lines:#?}");
    ensure!(lines.iter().filter(|line| line["stderr"] == true && line["text"] == "oh").count() == 3, "{lines:#?}");
    let told = skepctl(&node, &["logs", "web.2"])?;
    ensure!(
        told.lines().collect::<Vec<_>>() == ["web.2 | web 1", "web.2 | web 2", "web.2 | web 3", "web.2 | oh"],
        "{told}"
    );
    let told = skepctl(&node, &["logs", "db", "--tail", "2"])?;
    ensure!(told.lines().collect::<Vec<_>>() == ["db.1 | one 3", "db.1 | oh"], "{told}");
    let nobody = node.skepctl_output(&[&PROJECT[..], &["logs", "bd"]].concat())?;
    ensure!(!nobody.status.success() && said(&nobody).contains("db"), "{}", said(&nobody));

    // Who follows hears those that come later.
    let line = node.skepctl_line(&[&PROJECT[..], &["logs", "-f", "--tail", "1", "db"]].concat())?;
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let _follower = node.machine().spawn("follower", &line)?;
    let log = node.machine().directory().join("follower.log");
    let hears = |expected: &[&str]| {
        wait_for("what is said is heard", PATIENCE, || {
            let heard = fs::read_to_string(&log)?;
            if heard.lines().eq(expected.iter().copied()) { Ok(Some(())) } else { Err(anyhow::anyhow!("{heard}")) }
        })
    };
    hears(&["db.1 | oh"])?;
    node.up("shop", "production", &file("two"))?;
    let second = ["db.1 | oh", "db.1 | two 1", "db.1 | two 2", "db.1 | two 3", "db.1 | oh"];
    hears(&second)?;
    // Its process ends, and Docker starts it again in the same container.
    let pid =
        node.docker(&["inspect", "--format", "{{.State.Pid}}", node.replica("shop", "production", "db", 1)?.id()?])?;
    node.run(&["kill", "-9", pid.trim()])?;
    hears(&[&second[..], &second[1..]].concat())
}
