//! Pulling images through this computer's network: from a real registry, and from one that gives nothing.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::Result;
use tests::{
    Node, Valve,
    images::{Image, Limits, Pulled, Registry},
};

/// Short, since it is waited for.
const SHORT: Limits = Limits { answer: Duration::from_secs(2), silence: Duration::from_secs(2) };

/// Pulls with the node's network as this computer's own.
fn pull(node: &Node, registry: &Registry, image: &str, limits: Limits) -> Result<Pulled> {
    node.machine().netns()?.enter(|| node.pull(registry, image, limits, &mut |_| ()))
}

/// Pushes a busybox that says `marker` in its environment, as `some/busybox` with this tag; gives its digest.
fn push(node: &Node, registry: &Registry, tag: &str, marker: &str) -> Result<String> {
    let container = node.docker(&["create", "busybox:latest"])?;
    node.docker(&["commit", "--change", &format!("ENV MARKER={marker}"), &container, "marked:latest"])?;
    let digest = node.push("marked:latest", registry, &format!("some/busybox:{tag}"))?;
    node.docker(&["rmi", "marked:latest"])?;
    Ok(digest)
}

/// What the engine's image `name` says.
fn marker(node: &Node, name: &str) -> Result<String> {
    node.docker(&["run", "--rm", "--pull=never", name, "sh", "-c", "echo $MARKER"])
}

#[test]
fn an_image_is_downloaded_again_when_its_digest_is_another() -> Result<()> {
    let node = Node::builder().docker_only()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Busybox])?;
    let name = registry.image("some/busybox:1");
    let run = || marker(&node, &name);
    let downloads = || node.docker(&["logs", "registry"]).map(|log| log.matches("GET /v2/some/busybox/blobs/").count());
    let mut before = downloads()?;
    // Not the same as the last time, whose image is still kept.
    for marker in ["one", "two"].map(|marker| format!("{marker}-{}", std::process::id())) {
        let digest = push(&node, &registry, "1", &marker)?;
        for again in [false, true] {
            assert!(run().is_err(), "the engine has it before it is pulled");
            let pulled = pull(&node, &registry, "some/busybox:1", Limits::default())?;
            assert_eq!(pulled, Pulled { name: name.clone(), digest: digest.clone() });
            assert_eq!(run()?, marker);
            assert_eq!(downloads()? == before, again, "{} downloads, then {}", before, downloads()?);
            before = downloads()?;
            node.docker(&["rmi", &name])?;
        }
    }
    Ok(())
}

#[test]
fn of_several_architectures_this_computers_own_is_pulled() -> Result<()> {
    let node = Node::builder().docker_only()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Busybox])?;
    let list = registry.image("some/busybox:all");
    let config = node.machine().directory().display().to_string();
    let manifest = |arguments: &[&str]| node.docker(&[&["--config", &config, "manifest"], arguments].concat());
    let mut members = Vec::new();
    for tag in ["foreign", "own"] {
        push(&node, &registry, tag, tag)?;
        members.push(registry.image(&format!("some/busybox:{tag}")));
    }
    manifest(&["create", "--insecure", &list, &members[0], &members[1]])?;
    manifest(&["annotate", "--arch=s390x", &list, &members[0]])?;
    let digest = manifest(&["push", "--insecure", &list])?;
    let pulled = pull(&node, &registry, "some/busybox:all", Limits::default())?;
    assert!(digest.lines().any(|line| line == pulled.digest), "{} is not that of the list: {digest}", pulled.digest);
    assert_eq!(marker(&node, &list)?, "own");
    Ok(())
}

#[test]
fn a_registry_that_does_not_answer_is_given_up_with_the_reason() -> Result<()> {
    let node = Node::builder().docker_only()?;
    let fails = |registry: &str, limits| -> Result<String> {
        Ok(format!("{:#}", pull(&node, &registry.parse()?, "busybox:1", limits).expect_err("there is no such image")))
    };
    let begin = Instant::now();
    let refused = fails("127.0.0.1:1", Limits::default())?;
    assert!(refused.ends_with("connection refused"), "{refused}");
    assert!(begin.elapsed() < SHORT.answer, "it took {:?} to see that nobody is there", begin.elapsed());
    // With this computer's own resolver, which may be silent too.
    let nowhere = node.pull(&"nowhere.invalid".parse()?, "busybox:1", SHORT, &mut |_| ()).expect_err("no such name");
    let nowhere = nowhere.to_string();
    assert!(nowhere.contains("lookup nowhere.invalid") || nowhere == "no answer within 2 s", "{nowhere}");
    let silent = node.machine().netns()?.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let begin = Instant::now();
    assert_eq!(fails(&silent.local_addr()?.to_string(), SHORT)?, "no answer within 2 s");
    assert!(begin.elapsed() >= SHORT.answer, "given up after {:?}", begin.elapsed());
    let unknown = fails(&node.start_registry()?.to_string(), Limits::default())?;
    assert!(unknown.contains("manifest unknown"), "{unknown}");
    Ok(())
}

#[test]
fn a_download_that_falls_silent_is_given_up_and_can_be_repeated() -> Result<()> {
    let node = Node::builder().docker_only()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Busybox])?;
    let digest = push(&node, &registry, "1", &format!("silent-{}", std::process::id()))?;
    // Enough for the manifest and some of the layer.
    let server = registry.to_string().parse()?;
    let valve = node.machine().netns()?.enter(|| Valve::new(server, 100_000))?;
    let begin = Instant::now();
    let error =
        pull(&node, &valve.address().to_string().parse()?, "some/busybox:1", SHORT).expect_err("a part is lacking");
    valve.closed(Duration::ZERO)?;
    assert!(format!("{error:#}").contains("not so after 2s"), "{error:#}");
    assert!(begin.elapsed() >= SHORT.silence, "given up after {:?}", begin.elapsed());
    assert!(!node.output(&["pgrep", "skopeo"])?.status.success(), "skopeo still runs");
    assert_eq!(pull(&node, &registry, "some/busybox:1", Limits::default())?.digest, digest);
    Ok(())
}
