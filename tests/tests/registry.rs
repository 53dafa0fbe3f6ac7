//! Registries: images that they give to those alone whom they know, and when they are asked.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::Node;
use tests::images::{Image, Registry};

const USER: &str = "skep";
const PASSWORD: &str = "let-me-in";
/// That, hashed.
const HTPASSWD: &str = "skep:$2b$05$abcdefghijklmnopqrstuu3Jd./u/rH1RxB6auX5v7gLP6uWhKCgG\n";
const WRONG: &str = "let-him-in";

/// `skepctl registry login`, with the password on standard input.
fn login(node: &Node, registry: &Registry, password: &str) -> Result<Output> {
    let line = node.skepctl_line(&["registry", "login", &registry.to_string(), "--user", USER])?;
    let mut command = node.machine().command(&line);
    let mut skepctl = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    skepctl.stdin.take().context("no standard input")?.write_all(password.as_bytes())?;
    Ok(skepctl.wait_with_output()?)
}

/// Puts `busybox` there as `private:1`, and leaves nothing of it on the node.
fn push(node: &Node, registry: &Registry) -> Result<()> {
    let config = node.machine().directory().join("docker-config").display().to_string();
    let docker = |arguments: &[&str]| node.docker(&[&["--config", &config], arguments].concat());
    docker(&["login", "--username", USER, "--password", PASSWORD, &registry.to_string()])?;
    let name = registry.image("private:1");
    docker(&["tag", Image::Busybox.tag(), &name])?;
    docker(&["push", &name])?;
    docker(&["rmi", &name, Image::Busybox.tag()])?;
    Ok(())
}

#[test]
fn a_private_image_is_pulled_by_who_is_logged_in_and_the_password_is_told_nobody() -> Result<()> {
    let node = Node::start()?;
    let registry = node.start_private_registry(HTPASSWD)?;
    node.load(&[Image::Busybox])?;
    push(&node, &registry)?;
    let service = json!({ "image": registry.image("private:1"), "command": ["sleep", "inf"] });
    let file = node.compose_file("shop", "production", &json!({ "services": { "web": service } }).to_string())?;
    let up = || node.skepctl_output(&["-p", "shop", "up", "-f", &file]);
    let refused = |output: Output| -> Result<()> {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told =
            said.contains("private:1 cannot be had") && said.contains(&format!("skepctl registry login {registry}"));
        ensure!(!output.status.success() && told, "{said}");
        Ok(())
    };
    refused(up()?).context("without a login")?;
    let wrong = login(&node, &registry, WRONG)?;
    ensure!(wrong.status.success(), "{wrong:?}");
    refused(up()?).context("with a wrong password")?;
    let right = login(&node, &registry, PASSWORD)?;
    ensure!(right.status.success(), "{right:?}");
    let done = up()?;
    ensure!(done.status.success(), "{done:?}");
    node.replica("shop", "production", "web", 1)?;

    let list = node.skepctl_json(&["registry", "list"])?;
    ensure!(list[0]["registry"] == registry.to_string() && list[0]["user"] == USER, "{list}");
    let store = std::fs::read(node.state_directory().join("store.redb"))?;
    let said = [list.to_string(), node.skepd_log()?, String::from_utf8_lossy(&store).into_owned()].concat();
    ensure!(![PASSWORD, WRONG].iter().any(|secret| said.contains(secret)), "a password is told");
    node.skepctl(&["registry", "logout", &registry.to_string()])?;
    ensure!(node.skepctl_json(&["registry", "list"])? == json!([]), "a login is left");
    let again = node.skepctl_output(&["registry", "logout", &registry.to_string()])?;
    let said = String::from_utf8_lossy(&again.stderr);
    ensure!(!again.status.success() && said.contains("there is no login to"), "{said}");
    let odd = node.skepctl_output(&["registry", "logout", "https://ghcr.io"])?;
    ensure!(!odd.status.success(), "{odd:?}");
    Ok(())
}

#[test]
fn a_registry_is_asked_as_the_file_says() -> Result<()> {
    let node = Node::start()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Busybox])?;
    let policies = ["always", "missing", "never"];
    let name = |policy: &str| registry.image(&format!("{policy}:1"));
    let publish = |marker: &str| -> Result<()> {
        let container = node.docker(&["create", Image::Busybox.tag()])?;
        node.docker(&["commit", "--change", &format!("ENV MARKER={marker}"), container.trim(), marker])?;
        for policy in policies {
            node.docker(&["tag", marker, &name(policy)])?;
            node.docker(&["push", &name(policy)])?;
        }
        node.docker(&["rm", container.trim()]).map(drop)
    };
    let service =
        |image: &str, policy: &str| json!({ "image": image, "command": ["sleep", "inf"], "pull_policy": policy });
    let services: BTreeMap<_, _> =
        policies.into_iter().map(|policy| (policy, service(&name(policy), policy))).collect();
    let has = |expected: [&str; 3]| -> Result<()> {
        for (policy, expected) in policies.into_iter().zip(expected) {
            let marker = node.replica("shop", "production", policy, 1)?.exec(&["sh", "-c", "echo $MARKER"])?;
            ensure!(marker.trim() == expected, "{policy}: {marker}");
        }
        Ok(())
    };
    publish("one")?;
    node.up("shop", "production", &json!({ "services": services }).to_string())?;
    has(["one"; 3])?;
    // Each name stands for another image there, and for the same as before here.
    publish("two")?;
    for policy in policies {
        node.docker(&["tag", "one", &name(policy)])?;
        node.skepctl(&["-p", "shop", "-e", "production", "deploy", policy])?;
    }
    has(["two", "one", "one"])?;
    let absent = json!({ "services": { "web": service(&registry.image("web:2"), "never") } });
    let file = node.compose_file("shop", "staging", &absent.to_string())?;
    let refused = node.skepctl_output(&["-p", "shop", "-e", "staging", "up", "-f", &file])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("its pull_policy is never"), "{said}");
    Ok(())
}
