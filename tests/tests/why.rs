//! What does not work, and what `skepctl why` says of it. The way to another node, and how large packets may be there, are
//! in `skepctl.rs`; that a command waits for another service is in `compose.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::images::Image;
use tests::{Node, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A name of the outside that this computer knows.
const OUTSIDE: &str = "shop.example";

fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Musl])?;
    let web = json!({ "image": Image::Musl.tag(), "command": ["web"] });
    let with = |further: serde_json::Value| {
        let mut service = web.clone();
        service
            .as_object_mut()
            .into_iter()
            .for_each(|service| service.extend(further.as_object().cloned().unwrap_or_default()));
        service
    };
    let production = json!({
        "services": {
            "web": web,
            "My_DB": web,
            "idle": with(json!({ "deploy": { "replicas": 0 } })),
            "vault": with(json!({ "networks": ["inner"] })),
            "ill": with(json!({
                "healthcheck": { "test": ["CMD", "false"], "interval": "200ms", "retries": 1 },
                "x-skep": { "start_timeout": "120s" },
            })),
            "unborn": { "image": "registry.invalid/none:1" },
        },
        "networks": { "inner": { "internal": true } },
    });
    let file = node.compose_file("shop", "production", &production.to_string())?;
    node.skepctl(&["-p", "shop", "-e", "production", "up", "--no-wait", "-f", &file])?;
    let staging = json!({ "services": { "web": web, "only-here": web } });
    node.up("shop", "staging", &staging.to_string())?;
    for service in ["web", "my-db", "vault"] {
        node.replica("shop", "production", service, 1)?;
    }
    Ok(node)
}

#[test]
fn why_answers_what_people_ask() -> Result<()> {
    let node = start()?;
    let hosts = node.machine().directory().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n1.1.1.1 {OUTSIDE}\n"))?;
    node.machine().shell(&format!("mount --bind {} /etc/hosts", hosts.display()))?;
    let answer = |source: &str, destination: &str| -> Result<(Option<i32>, String)> {
        let output = node.skepctl_output(&["-p", "shop", "-e", "production", "why", source, destination])?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok((output.status.code(), said))
    };
    let says = |source: &str, destination: &str, status: i32, parts: &[&str]| {
        wait_for(&format!("why {source} {destination} says {parts:?}"), PATIENCE, || {
            let (code, said) = answer(source, destination)?;
            let all = code == Some(status) && parts.iter().all(|part| said.contains(part));
            if all { Ok(Some(())) } else { Err(anyhow::anyhow!("{code:?} {said}")) }
        })
    };
    says("web", "my-db:8080", 0, &["same environment, shared network", "It gets there."])?;
    // Another environment, by its address and by its name.
    says("web", "shop/staging/only-here.1:8080", 4, &["other-environment", "remedy: "])?;
    says("web", "only-here.staging.shop.internal:8080", 4, &["does not resolve there", "unknown-vip"])?;
    // A network that does not lead out.
    says("vault", "1.1.1.1:443", 4, &["egress-off", "remedy: "])?;
    says("web", "vault:8080", 4, &["does not resolve there", "no-shared-network"])?;
    // Nobody is there; who is there is not well, all of them; who should be there has not been started.
    says("web", "idle:8080", 4, &["no-backend"])?;
    says("web", "ill:8080", 0, &["goes to the backend", "ill.1 is unhealthy on "])?;
    says("web", "unborn:8080", 4, &["no-backend", "unborn.1 is ", "registry.invalid/none:1"])?;
    says("unborn", "web:8080", 1, &["does not run on this node", "registry.invalid/none:1"])?;
    // A name that is written in another way than it is resolved, a mistyped one, and one that nothing is like.
    says("web", "My_DB:8080", 0, &["It gets there."])?;
    says("web", "My DB:8080", 1, &["did you mean my-db?"])?;
    says("web", "my-bd:8080", 1, &["did you mean my-db?"])?;
    says("wbe", "my-db:8080", 1, &["did you mean web?"])?;
    says("web", "nothing-like-it:8080", 1, &["\"nothing-like-it\"", "see `skepctl names`"])?;
    // Names of the outside, while the forwarder answers and while it does not.
    says("web", &format!("{OUTSIDE}:80"), 0, &["It gets there."])?;
    let signal =
        |name| node.machine().shell(&format!("kill -{name} $(cat {}/dns-*.pid)", node.run_directory().display()));
    signal("STOP")?;
    let stopped = says("web", &format!("{OUTSIDE}:80"), 4, &["forwarder for names of the outside does not answer at"]);
    signal("CONT")?;
    stopped?;
    says("web", &format!("{OUTSIDE}:80"), 0, &["It gets there."])?;
    let (_, all) = answer("web", "my-db:8080")?;
    ensure!(!all.contains("forwarder"), "{all}");
    Ok(())
}
