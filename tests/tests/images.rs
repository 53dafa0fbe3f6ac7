//! The images: they run, as their official namesakes would.

use std::time::Duration;

use anyhow::Result;
use tests::{Node, images::Image, wait_for};

#[test]
fn images_run_like_their_official_namesakes() -> Result<()> {
    let node = Node::builder().docker_only()?;
    node.load(&[Image::Busybox, Image::Tools, Image::Postgres, Image::Redis, Image::Musl, Image::Go])?;
    node.docker(&[
        "run",
        "--detach",
        "--name=db",
        "--env=POSTGRES_PASSWORD=secret",
        "--env=POSTGRES_DB=shop",
        "postgres:latest",
    ])?;
    node.docker(&["run", "--detach", "--name=cache", "redis:latest"])?;
    let address = |name: &str| node.docker(&["inspect", "--format={{.NetworkSettings.IPAddress}}", name]);
    let (db, cache) = (address("db")?, address("cache")?);
    let url = format!("postgresql://postgres:secret@{db}/shop");
    let answer = wait_for("PostgreSQL's answer", Duration::from_secs(60), || {
        node.docker(&["run", "--rm", "tools:latest", "psql", "-Atc", "SELECT current_database()", &url]).map(Some)
    });
    let answer = answer.or_else(|error| Err(error.context(node.docker(&["logs", "db"])?)))?;
    assert_eq!(answer, "shop");
    let wrong =
        node.docker(&["run", "--rm", "tools:latest", "psql", "-c", "SELECT 1", &url.replace("secret", "wrong")]);
    assert!(format!("{:#}", wrong.expect_err("a wrong password")).contains("authentication failed"));
    assert_eq!(node.docker(&["run", "--rm", "tools:latest", "redis-cli", "-h", &cache, "ping"])?, "PONG");
    node.docker(&["run", "--rm", "busybox:latest", "ping", "-c1", &db])?;
    for (image, lookup) in [("musl:latest", "resolve"), ("go:latest", "lookup")] {
        let found = node.docker(&["run", "--rm", image, lookup, "outside.example"])?;
        assert!(found.contains("11.1.0.1") && found.contains("2a00:5ce9:1::1"), "{image}: {found}");
    }
    for tool in ["python3", "curl", "dig", "ip", "ncat", "socat", "ping", "tcpdump"] {
        node.docker(&["run", "--rm", "tools:latest", "sh", "-c", &format!("command -v {tool}")])?;
    }
    Ok(())
}
