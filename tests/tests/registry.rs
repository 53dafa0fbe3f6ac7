//! Images that a registry gives to those alone whom it knows.

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
