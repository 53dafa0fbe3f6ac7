//! What can only be done where a replica is, asked of another node.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::images::Image;
use tests::{Node, wait_for};

use super::scene;

const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];
/// Octets of what goes through a command and through copies.
const MUCH: usize = 3_000_000;
/// Where daemons are asked by each other.
const PORT: u16 = 51_821;

/// A line of the shell with skepctl in it.
fn shell(node: &Node, before: &str, arguments: &str) -> Result<Output> {
    let line = format!("{before}{} {arguments}", node.skepctl_line(&PROJECT)?.join(" "));
    node.output(&["sh", "-c", &line])
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn whoever_is_asked_has_it_done_where_the_replica_is() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Musl])?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    let service = json!({ "image": Image::Musl.tag(), "command": ["web"], "deploy": { "replicas": 2 },
        "x-skep": { "port": 8080 } });
    first.up("shop", "production", &json!({ "services": { "web": service } }).to_string())?;
    let replicas = first.replicas()?;
    let there = replicas.iter().find(|replica| replica.node == second.machine().name());
    let Some(there) = there.map(|replica| replica.replica) else { anyhow::bail!("all on one node: {replicas:?}") };
    let web = second.replica("shop", "production", "web", there)?;

    let ended = shell(first, "echo typed | ", &format!("exec web.{there} sh -c 'cat; hostname >&2; exit 7'"))?;
    let heard = (text(&ended.stdout), text(&ended.stderr).trim().to_owned(), ended.status.code());
    ensure!(heard == ("typed\n".into(), web.exec(&["hostname"])?, Some(7)), "{heard:?}");
    let much = first.machine().directory().join("much");
    fs::write(&much, (0..MUCH).map(|number| (number % 251) as u8).collect::<Vec<u8>>())?;
    let (much, back) = (much.display().to_string(), first.machine().directory().join("back").display().to_string());
    let line = format!("exec web.{there} cat < {much} | cmp - {much}");
    ensure!(shell(first, "", &line)?.status.success(), "what went through a command came back otherwise");
    for copy in [format!("cp {much} web.{there}:/tmp/much"), format!("cp web.{there}:/tmp/much {back}")] {
        let copied = shell(first, "", &copy)?;
        ensure!(copied.status.success(), "{copy}: {}", text(&copied.stderr));
    }
    ensure!(web.exec(&["wc", "-c", "/tmp/much"])?.starts_with(&MUCH.to_string()));
    first.run(&["cmp", &much, &back])?;

    // Lines of both, in the order of their time.
    for number in 0..6 {
        let turn = if number % 2 == 0 { there } else { 3 - there };
        let said = shell(first, "", &format!("exec web.{turn} sh -c 'echo said {number} >/proc/1/fd/1'"))?;
        ensure!(said.status.success(), "{}", text(&said.stderr));
    }
    let expected: Vec<String> = (0..6).map(|number| format!("said {number}")).collect();
    for node in [first, second] {
        let told = node.skepctl(&[&PROJECT[..], &["logs", "web"]].concat())?;
        let said: Vec<&str> = told.lines().filter_map(|line| Some(&line[line.find("said ")?..])).collect();
        ensure!(said == expected, "{told}");
    }
    let mut following =
        first.machine().spawn("logs", &first.skepctl_line(&[&PROJECT[..], &["logs", "-f", "web"]].concat())?)?;
    shell(first, "", &format!("exec web.{there} sh -c 'echo said later >/proc/1/fd/1'"))?;
    wait_for("what is said later", Duration::from_secs(20), || {
        following.must_be_running()?;
        Ok(following.log()?.contains("said later").then_some(()))
    })?;

    let to = format!("web.{there}");
    let forwarding = first.skepctl_line(&[&PROJECT[..], &["forward", &to, "18080"]].concat())?;
    let _forward = first.machine().spawn("forward", &forwarding)?;
    wait_for("an answer through the forward", Duration::from_secs(20), || {
        let asked = first.output(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:18080/"])?;
        Ok(asked.status.success().then_some(()))
    })?;
    strangers_are_not_heard(first, second)?;

    // Nobody answers there: who asks is told so, and by logs what there is.
    second.kill_skepd()?;
    let refused = shell(first, "", &format!("exec web.{there} true"))?;
    let said = text(&refused.stderr);
    ensure!(!refused.status.success() && said.contains(second.machine().name()), "{said}");
    let told = first.skepctl_output(&[&PROJECT[..], &["logs", "web"]].concat())?;
    let (said, noted) = (text(&told.stdout), text(&told.stderr));
    ensure!(said.contains("said 1") && !said.contains("said 0") && noted.contains("is not known"), "{said}{noted}");
    // Its next one has another key.
    second.start_skepd()?;
    wait_for("the next daemon to be asked", Duration::from_secs(20), || {
        Ok(shell(first, "", &format!("exec web.{there} true"))?.status.success().then_some(()))
    })
}

/// Whoever has no key of a node is hung up on, without a word.
fn strangers_are_not_heard(from: &Node, to: &Node) -> Result<()> {
    let request: &[u8] = b"GET /v1/node/logs HTTP/1.1\r\nhost: a\r\n\r\n";
    // As long as the first message is, and of nobody.
    let nobody = [&[0, 96][..], &[7; 96]].concat();
    for said in [request, &nobody, &[0, 0], &[255, 255, 1]] {
        let address = to.address4().parse()?;
        from.machine().netns()?.enter(|| {
            let mut stream = TcpStream::connect((std::net::IpAddr::V4(address), PORT))?;
            stream.write_all(said)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut heard = Vec::new();
            // Reset or closed.
            drop(stream.read_to_end(&mut heard));
            ensure!(heard.is_empty(), "{said:?} was answered: {heard:?}");
            Ok(())
        })?;
    }
    Ok(())
}
