//! The store can be lost, damaged, taken elsewhere: what runs is never touched for it, and comes back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::images::Image;
use tests::load::{KeepAlive, Place, Server, Service, run};
use tests::{Etcd, Lan, Node, wait_for};

const COMPOSE: &str = "
services:
  web: {image: 'tools:latest', command: [sleep, inf], networks: [front, back], deploy: {replicas: 2}}
  store:
    image: 'tools:latest'
    command: [sleep, inf]
    environment: {PASSWORD: 'se=cret', EMPTY: ''}
    networks: {back: {aliases: [db]}}
networks:
  front:
  back: {internal: true}
";
const IDLE: &str = "services: {idle: {image: 'tools:latest', command: [sleep, inf], deploy: {replicas: 0}}}";
const PASSPHRASE: &str = "correct horse battery staple";

fn succeeded(what: &str, output: &Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Refused in one line that has all of `names`, without a panic.
fn refused(what: &str, output: &Output, names: &[&str]) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{what}: succeeded");
    ensure!(!error.contains("panicked"), "{what}: {error}");
    ensure!(error.lines().any(|line| names.iter().all(|name| line.contains(name))), "{what}: not {names:?}: {error}");
    Ok(())
}

/// A file with the passphrase.
fn passphrase(node: &Node, text: &str) -> Result<String> {
    let path = node.machine().directory().join(format!("passphrase-{}", text.len()));
    fs::write(&path, format!("{text}\n"))?;
    Ok(path.display().to_string())
}

/// What must come back: services with ids and VIPs, replicas with addresses, names.
fn identity(node: &Node) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let lists: [(&str, &[&str]); 3] = [
        ("services", &["project", "environment", "service", "vip", "vip6", "env_id", "service_id", "deployment"]),
        ("ps", &["project", "environment", "service", "replica", "address", "address6", "vip", "state"]),
        ("names", &["project", "environment", "name", "vip", "vip6", "networks"]),
    ];
    for (list, fields) in lists {
        let rows = node.skepctl_json(&[list])?;
        for row in rows.as_array().with_context(|| format!("`{list}` is a list"))? {
            if row["project"] == "idle" {
                continue;
            }
            let picked: Vec<Value> = fields.iter().map(|field| row[*field].clone()).collect();
            ensure!(picked.iter().all(|value| !value.is_null()), "{list}: {row}");
            all.insert(format!("{list} {}", serde_json::to_string(&picked)?), Value::Null);
        }
    }
    Ok(all)
}

fn resolved(node: &Node) -> Result<String> {
    let web = node.replica("shop", "production", "web", 1)?;
    let names = ["web", "store", "db", "store.production.shop"].map(|name| format!("{name}.internal"));
    let ask = format!("for name in {}; do dig +short $name A $name AAAA; done", names.join(" "));
    web.exec(&["sh", "-c", &ask])
}

#[test]
fn a_backup_taken_under_load_comes_up_the_same_on_another_machine() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Tools])?;
    node.up("shop", "production", COMPOSE)?;
    let (web, store) = (node.replica("shop", "production", "web", 1)?, node.replica("shop", "production", "store", 1)?);
    let _server = Server::start(Place::inside(store.netns()?), 7001, Service::Echo)?;
    let to = format!("{}:7001", store.vip()?).parse()?;
    let load = run(Place::inside(web.netns()?), move || KeepAlive::new(to));
    let file = node.machine().directory().join("backup").display().to_string();
    let secret = passphrase(&node, PASSPHRASE)?;
    let (before, names) = (identity(&node)?, resolved(&node)?);
    ensure!(names.lines().count() == 8, "names: {names}");

    // Environments come and go meanwhile; each backup is one revision of the store all the same.
    let over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| -> Result<u32> {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                node.up("idle", "production", IDLE)?;
                node.down("idle", "production")?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let backups = (0..5).try_for_each(|_| {
            succeeded("backup", &node.skepd(&["backup", &file, "--passphrase-file", &secret])?).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        let rounds = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        println!("5 backups during {rounds} rounds of changes");
        backups
    })?;
    let tally = load.stop()?;
    ensure!(tally.exchanges > 0 && tally.failures == 0, "{tally:?}");
    let bytes = fs::read(&file)?;
    ensure!(!bytes.windows(7).any(|window| window == b"se=cret"), "the backup is not encrypted");

    let other = Node::builder().docker_only()?;
    other.load(&[Image::Tools])?;
    let restore = |file: &str, secret: &str, more: &[&str]| {
        other.skepd(&[&["restore", file, "--passphrase-file", secret], more].concat())
    };
    let part = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = other.machine().directory().join(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let state = other.state_directory();
    refused("a wrong passphrase", &restore(&file, &passphrase(&other, "wrong")?, &[])?, &[&file, "passphrase"])?;
    for cut in [0, 7, 39, 60, bytes.len() / 2, bytes.len() - 1] {
        refused("cut off", &restore(&part("cut", &bytes[..cut])?, &secret, &[])?, &["/cut"])?;
    }
    for at in [0, 9, 30, 50, bytes.len() / 2, bytes.len() - 1] {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        refused("altered", &restore(&part("altered", &altered)?, &secret, &[])?, &["/altered"])?;
    }
    ensure!(!state.join("store.redb").exists(), "a refused restore left a store");

    succeeded("restore", &restore(&file, &secret, &[])?)?;
    other.start_skepd()?;
    wait_for("the same environment", Duration::from_secs(60), || Ok((identity(&other)? == before).then_some(())))?;
    ensure!(resolved(&other)? == names, "names: {} and {names}", resolved(&other)?);
    refused("while skepd runs", &restore(&file, &secret, &["--replace"])?, &["skepd.sock", "stop it"])?;

    // What comes now gets ids that were never handed out.
    other.up("blog", "production", IDLE)?;
    let ids = |node: &Node, project: &str| -> Result<Vec<u64>> {
        let rows = node.skepctl_json(&["-p", project, "services"])?;
        let rows = rows.as_array().context("a list")?.iter();
        rows.flat_map(|row| [row["env_id"].as_u64(), row["service_id"].as_u64()]).collect::<Option<_>>().context("ids")
    };
    let highest = ids(&node, "shop")?.into_iter().max();
    let blog = ids(&other, "blog")?;
    ensure!(blog.iter().min() > highest.as_ref(), "ids of what came after: {blog:?} and {highest:?}");
    other.stop_skepd()?;
    refused(
        "where there are environments",
        &restore(&file, &secret, &[])?,
        &[&state.display().to_string(), "--replace"],
    )?;
    // A backup with skepd dead holds the same.
    let later = other.machine().directory().join("later").display().to_string();
    succeeded("backup", &other.skepd(&["backup", &later, "--passphrase-file", &secret])?)?;
    succeeded("restore", &restore(&later, &secret, &["--replace"])?)?;
    other.start_skepd()?;
    wait_for("both projects", Duration::from_secs(30), || {
        let now = identity(&other)?;
        Ok((before.keys().all(|row| now.contains_key(row)) && ids(&other, "blog")? == blog).then_some(()))
    })?;
    Ok(())
}

/// Container ids with their start times: what nothing may touch.
fn containers(node: &Node) -> Result<String> {
    let ids = node.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    node.docker(&[&["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}"], ids.as_slice()].concat())
}

/// Starts skepd with the store as it is: either all is as before, or it refuses and touches nothing; then `skepd repair`
/// makes it so. Gives whether it refused.
fn comes_back(node: &Node, what: &str, before: &str, wanted: &BTreeMap<String, Value>) -> Result<bool> {
    let logged = node.skepd_log()?.len();
    let as_before = || Ok((identity(node)? == *wanted).then_some(()));
    // It may have ended before it is known to have started.
    let refuses = node.start_skepd().is_err() || {
        let pid = node.skepd_pid()?;
        wait_for(what, Duration::from_secs(30), || {
            // The link of a process that has ended cannot be read.
            if fs::read_link(format!("/proc/{pid}/exe")).is_err() {
                return Ok(Some(true));
            }
            Ok(as_before()?.map(|()| false))
        })?
    };
    let log = node.skepd_log()?.split_off(logged);
    ensure!(!log.contains("panicked"), "{what}: {log}");
    ensure!(containers(node)? == before, "{what}: the start touched containers: {log}");
    if refuses {
        ensure!(log.contains("skepd repair"), "{what}: no remedy: {log}");
        println!("{what}:\n{}", succeeded("repair", &node.skepd(&["repair"])?)?);
        node.start_skepd()?;
        wait_for(what, Duration::from_secs(30), as_before)?;
        ensure!(containers(node)? == before, "{what}: the repaired store changed containers");
    }
    node.stop_skepd()?;
    Ok(refuses)
}

#[test]
fn a_damaged_store_is_refused_and_repaired_and_nothing_that_runs_is_touched() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Tools])?;
    node.up("shop", "production", COMPOSE)?;
    let path = node.state_directory().join("store.redb");
    let copy = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    let young = fs::read(&path)?;
    node.up("blog", "production", COMPOSE)?;
    let (running, wanted) = (containers(&node)?, identity(&node)?);
    node.stop_skepd()?;
    let sound = fs::read(&path)?;
    let copies = || [copy("copy"), copy("copy.1")].map(|path| fs::read(&path).map(|bytes| (path, bytes)));
    let [newest, older] = copies();
    let (newest, older) = (newest?, older?);

    let mut refusals = 0;
    let mut attempt = |what: &str, damage: &dyn Fn() -> Result<()>| -> Result<()> {
        for (path, bytes) in [(&path, &sound), (&newest.0, &newest.1), (&older.0, &older.1)] {
            fs::write(path, bytes)?;
        }
        damage()?;
        refusals += u32::from(comes_back(&node, what, &running, &wanted)?);
        Ok(())
    };
    let points = if std::env::var_os("SKEP_LONG").is_some() { 40 } else { 3 };
    for cut in (0..points).map(|point| sound.len() * point / points) {
        attempt(&format!("cut off at {cut}"), &|| Ok(fs::write(&path, &sound[..cut])?))?;
    }
    for at in (0..points).map(|point| 64 + sound.len() * point / points) {
        let mut altered = sound.clone();
        altered.iter_mut().skip(at).take(2048).for_each(|byte| *byte ^= 0x5a);
        attempt(&format!("altered at {at}"), &|| Ok(fs::write(&path, &altered)?))?;
    }
    attempt("gone", &|| Ok(fs::remove_file(&path)?))?;
    attempt("an older one", &|| Ok(fs::write(&path, &young)?))?;
    attempt("an older one without copies", &|| {
        fs::write(&path, &young)?;
        Ok([&newest.0, &older.0].into_iter().try_for_each(fs::remove_file)?)
    })?;
    attempt("gone, and the copies damaged", &|| {
        fs::remove_file(&path)?;
        fs::write(&newest.0, b"SKEPSNAP")?;
        Ok(fs::write(&older.0, &older.1[..older.1.len() / 2])?)
    })?;
    attempt("all of it gone", &|| Ok([&path, &newest.0, &older.0].into_iter().try_for_each(fs::remove_file)?))?;
    ensure!(refusals >= 7, "{refusals} of the damages were noticed");

    // The same file again asks for nothing new: what was taken back is what was wanted.
    node.start_skepd()?;
    node.up("shop", "production", COMPOSE)?;
    ensure!(containers(&node)? == running, "`up` after a repair made containers anew");
    node.down("blog", "production")?;
    node.down("shop", "production")?;
    ensure!(node.docker(&["ps", "--all", "--quiet"])?.is_empty(), "containers are left");
    Ok(())
}

#[test]
fn a_store_damaged_under_a_running_skepd_is_written_anew() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Tools])?;
    node.up("shop", "production", COMPOSE)?;
    let (running, wanted) = (containers(&node)?, identity(&node)?);
    let path = node.state_directory().join("store.redb");
    for round in 0..4 {
        // Cut off, or overwritten in place: the file of a running store, as a failing disk would have it.
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        if round % 2 == 0 {
            file.set_len(4096)?;
        } else {
            std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 300_000], 0)?;
        }
        node.up("idle", "production", IDLE)?;
        node.down("idle", "production")?;
        ensure!(identity(&node)? == wanted, "round {round}");
        ensure!(containers(&node)? == running, "round {round}");
    }
    node.kill_skepd()?;
    comes_back(&node, "damaged while it ran", &running, &wanted)?;
    Ok(())
}

/// One node's state moves into an etcd of several: the node itself goes on there, with what runs.
#[test]
fn a_backup_is_what_a_cluster_begins_with() -> Result<()> {
    let lan = Arc::new(Lan::new()?);
    let etcd = Etcd::on(&lan)?;
    let node = Node::builder().lan(&lan).start()?;
    node.load(&[Image::Tools])?;
    node.up("shop", "production", COMPOSE)?;
    let (before, running) = (identity(&node)?, containers(&node)?);
    let file = node.machine().directory().join("backup").display().to_string();
    let secret = passphrase(&node, PASSPHRASE)?;
    succeeded("backup", &node.skepd(&["backup", &file, "--passphrase-file", &secret])?)?;
    node.stop_skepd()?;

    let url = etcd.url();
    let restore = ["restore", &file, "--passphrase-file", &secret, "--etcd", &url];
    succeeded("restore", &node.skepd(&restore)?)?;
    refused("where there is a state", &node.skepd(&restore)?, &["etcd holds", "--etcd-prefix"])?;
    node.spawn_skepd(&["--etcd", &url])?;
    wait_for("the same environment", Duration::from_secs(60), || {
        Ok(identity(&node).ok().filter(|now| *now == before).map(drop))
    })?;
    ensure!(containers(&node)? == running, "nothing was made anew");
    let again = node.machine().directory().join("again").display().to_string();
    node.stop_skepd()?;
    succeeded("backup", &node.skepd(&["backup", &again, "--passphrase-file", &secret, "--etcd", &url])?)?;
    Ok(())
}
