//! How a container of an image runs: the configuration part of an image.

use std::env::consts;

use serde_json::{Value, json};

use super::Image;

/// The image configuration in the form of Docker's image archives.
pub(super) fn config(image: Image, sha256: &str) -> Value {
    json!({
        "architecture": match consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": runtime(image),
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sha256}")] },
    })
}

/// Entrypoints and volumes are those of the official images.
fn runtime(image: Image) -> Value {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match image {
        Image::Busybox | Image::Musl => json!({ "Env": [PATH], "Cmd": ["sh"] }),
        Image::Tools | Image::Clients => json!({ "Env": [PATH], "Cmd": ["bash"] }),
        Image::Database(database) => database.runtime(PATH),
        Image::Postgres => json!({
            "Env": [PATH, "PGDATA=/var/lib/postgresql/data"],
            "Entrypoint": ["postgres-entrypoint"],
            "Cmd": ["postgres"],
            "ExposedPorts": { "5432/tcp": {} },
            "Volumes": { "/var/lib/postgresql/data": {} },
            // A fast shutdown; on SIGTERM it would wait for its clients.
            "StopSignal": "SIGINT",
        }),
        Image::Redis => json!({
            "Env": [PATH],
            "Entrypoint": ["redis-entrypoint"],
            "Cmd": ["redis-server"],
            "ExposedPorts": { "6379/tcp": {} },
            "Volumes": { "/data": {} },
            "WorkingDir": "/data",
        }),
        Image::Registry => json!({
            "Env": [PATH],
            "Entrypoint": ["docker-registry", "serve", "/etc/docker/registry/config.yml"],
            "Volumes": { "/var/lib/docker-registry": {} },
        }),
        Image::Go => json!({ "Env": [PATH], "Entrypoint": ["/bin/probe"], "Cmd": ["wait"] }),
    }
}
