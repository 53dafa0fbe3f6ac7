//! `docker`: containers, volumes, networks.

use anyhow::Result;
use serde_json::Value;

use super::{Names, Picture, array, documents, only};
use crate::node::Node;

pub(super) fn read(node: &Node, picture: &mut Picture, names: &mut Names) -> Result<()> {
    let ids = node.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
    if !ids.is_empty() {
        let arguments: Vec<&str> = ["inspect"].into_iter().chain(ids.lines()).collect();
        let inspected = documents(&node.docker(&arguments)?)?;
        let all: Vec<&Value> = inspected.iter().flat_map(array).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        names.containers = all.iter().map(|container| (text(&container["Id"]), text(&container["Name"]))).collect();
        for container in &all {
            picture.add(line(container, names));
            if let (Some("running"), Some(pid)) =
                (container["State"]["Status"].as_str(), container["State"]["Pid"].as_u64())
                && container["HostConfig"]["NetworkMode"] == "none"
            {
                names.namespaces.insert(text(&container["Name"]), pid);
            }
        }
    }
    for name in node.docker(&["volume", "ls", "--format", "{{.Name}}"])?.lines() {
        picture.add(format!("volume {name}"));
    }
    for name in node.docker(&["network", "ls", "--format", "{{.Name}}"])?.lines() {
        picture.add(format!("docker network {name}"));
    }
    Ok(())
}

fn line(container: &Value, names: &Names) -> String {
    let config = only(&container["Config"], &["Image", "Entrypoint", "Cmd", "Env", "Labels", "Hostname", "User"]);
    let host = only(
        &container["HostConfig"],
        &["NetworkMode", "RestartPolicy", "CapAdd", "CapDrop", "Dns", "DnsSearch", "Privileged", "LogConfig", "Binds"],
    );
    let name = container["Name"].as_str().unwrap_or_default();
    let state = only(&container["State"], &["Status", "Paused", "OOMKilled", "Dead"]);
    names.put(&format!("container {name}: {state}, {config}, {host}"))
}
