//! What skepd asks of a real Docker Engine, read back with the `docker` command and from inside.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::docker::{
    ContainerEvent, ContainerState, Docker, DockerError, EventKind, Health, Role, SandboxSpec, WorkloadSpec,
    volume_name,
};
use dataplane::model::rollout::HealthCheck;
use dataplane::model::settings::Identity;
use dataplane::model::spec::{RestartPolicy, VolumeMount};
use dataplane::model::{EnvironmentKey, ReplicaKey, ServiceKey, ServiceSpec};
use futures_util::{Stream, StreamExt};
use tests::Node;
use tests::images::Image;

const IMAGE: &str = "busybox:latest";

fn key(service: &str) -> ReplicaKey {
    let environment = EnvironmentKey { project: "shop".to_owned(), environment: "production".to_owned() };
    ServiceKey { environment, service: service.to_owned() }.replica(3, 1)
}

fn sandbox(service: &str) -> Result<SandboxSpec> {
    Ok(SandboxSpec {
        key: key(service),
        node: "n1".to_owned(),
        config: "s0".to_owned(),
        address4: [10, 208, 0, 5].into(),
        address6: "fd53:6b65:7000::5".parse()?,
        vip4: [10, 224, 0, 9].into(),
        vip6: "fd53:6b65:7001::9".parse()?,
        dns: [10, 224, 0, 53].into(),
        identity: Identity::default(),
        sysctls: BTreeMap::new(),
    })
}

fn workload(service: &str, sandbox: &str, script: &str) -> WorkloadSpec {
    WorkloadSpec {
        key: key(service),
        node: "n1".to_owned(),
        config: "w0".to_owned(),
        record: "{}".to_owned(),
        sandbox: sandbox.to_owned(),
        pinned: None,
        service: ServiceSpec {
            command: Some(vec!["-c".to_owned(), script.to_owned()]),
            entrypoint: Some(vec!["/bin/sh".to_owned()]),
            environment: BTreeMap::from([("GREETING".to_owned(), "a=b c".to_owned())]),
            restart: RestartPolicy::No,
            labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            working_dir: Some("/tmp".to_owned()),
            ..ServiceSpec::of_image(IMAGE)
        },
    }
}

/// A node with dockerd and no skepd, and a connection to the engine.
fn with_engine(test: impl AsyncFnOnce(&Node, Docker) -> Result<()>) -> Result<()> {
    let node = Node::builder().docker_only()?;
    node.load(&[Image::Busybox])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { test(&node, Docker::connect(&node.docker_url()).await?).await })
}

async fn running_sandbox(docker: &Docker, service: &str) -> Result<String> {
    docker.import_pause().await?;
    let id = docker.create_sandbox(&sandbox(service)?).await?;
    docker.start(&id).await?;
    Ok(id)
}

async fn until(
    events: &mut (impl Stream<Item = Result<ContainerEvent, DockerError>> + Unpin),
    wanted: impl Fn(&ContainerEvent) -> bool,
) -> Result<()> {
    let found = async {
        while let Some(event) = events.next().await {
            if wanted(&event?) {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.context("the event was not told")?
}

#[test]
fn a_pair_shares_names_and_nothing_of_the_network_is_dockers() -> Result<()> {
    with_engine(async |node, docker| {
        let image = docker.import_pause().await?;
        ensure!(docker.import_pause().await? == image, "a second import gives another image");
        ensure!(docker.image(&image).await?.is_some_and(|digest| digest.contains("sha256:")));
        let sandbox_id = running_sandbox(&docker, "api").await?;
        let spec = workload("api", &sandbox_id, "exec sleep 1000");
        let id = docker.create_workload(&spec).await?;
        docker.start(&id).await?;
        docker.start(&id).await.context("a second start")?;

        let inside = |command: &[&str]| node.docker(&[&["exec", id.as_str()], command].concat());
        ensure!(inside(&["hostname"])?.trim() == "api-1");
        let hosts = inside(&["cat", "/etc/hosts"])?;
        for line in ["10.208.0.5\tapi-1", "fd53:6b65:7000::5\tapi-1", "10.224.0.9\tapi", "fd53:6b65:7001::9\tapi"] {
            ensure!(hosts.contains(line), "{line} is not in\n{hosts}");
        }
        let resolver = inside(&["cat", "/etc/resolv.conf"])?;
        for line in ["nameserver 10.224.0.53", "search internal", "options ndots:1"] {
            ensure!(resolver.contains(line), "{line} is not in\n{resolver}");
        }
        ensure!(inside(&["sh", "-c", "echo $GREETING; pwd"])?.trim() == "a=b c\n/tmp");
        ensure!(inside(&["ls", "/sys/class/net"])?.trim() == "lo", "Docker gave it a network");
        // Unprivileged users may ping and serve port 80, as in any container of Docker's.
        ensure!(inside(&["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"])?.trim() == "0");

        let format = "{{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} {{.Config.User}}";
        let locked = node.docker(&["inspect", "--format", format, &sandbox_id])?;
        ensure!(locked.trim() == "[ALL] true 65534:65534", "{locked}");
        let labels = node.docker(&["inspect", "--format", "{{json .Config.Labels}}", &id])?;
        for label in [r#""skep.project":"shop""#, r#""skep.role":"workload""#, r#""team":"blue""#] {
            ensure!(labels.contains(label), "{label} is not in {labels}");
        }
        Ok(())
    })
}

#[test]
fn containers_are_listed_as_they_are() -> Result<()> {
    with_engine(async |node, docker| {
        let sandbox_id = running_sandbox(&docker, "api").await?;
        let id = docker.create_workload(&workload("api", &sandbox_id, "exit 3")).await?;
        node.docker(&["create", "--label", "skep.node=n1", IMAGE, "true"])?;
        node.docker(&["create", IMAGE, "true"])?;
        ensure!(docker.list("n2").await?.is_empty(), "another node's containers are not ours");

        let find = async |id: &str| -> Result<_> {
            docker.list("n1").await?.into_iter().find(|container| container.id == id).context("not listed")
        };
        ensure!(docker.list("n1").await?.len() == 2, "a container with half the labels is not ours");
        let owner = find(&sandbox_id).await?;
        ensure!((owner.role, owner.state) == (Role::Sandbox, ContainerState::Running));
        ensure!(owner.name == "skep-n1-shop-production-api-3-1-sandbox" && owner.sandbox.is_none());
        ensure!(owner.pid.is_some() && owner.exit_code.is_none() && owner.started_at.is_some());
        let created = find(&id).await?;
        ensure!((created.role, created.state) == (Role::Workload, ContainerState::Created));
        ensure!(created.sandbox.as_deref() == Some(&sandbox_id) && created.key == key("api"));
        ensure!((created.key.deployment, created.config.as_str()) == (3, "w0"));
        ensure!(created.pid.is_none() && created.exit_code.is_none() && created.started_at.is_none());

        let mut events = docker.events("n1");
        docker.start(&id).await?;
        until(&mut events, |event| event.kind == EventKind::Died { exit_code: Some(3) }).await?;
        let ended = find(&id).await?;
        ensure!((ended.state, ended.exit_code) == (ContainerState::Exited, Some(3)));
        ensure!(docker.inspect("nobody").await?.is_none());
        Ok(())
    })
}

#[test]
fn what_happens_to_our_containers_is_told() -> Result<()> {
    with_engine(async |node, docker| {
        let mut events = docker.events("n1");
        let sandbox_id = running_sandbox(&docker, "api").await?;
        let id = docker.create_workload(&workload("api", &sandbox_id, "trap 'exit 0' TERM; sleep 1000 & wait")).await?;
        docker.start(&id).await?;
        until(&mut events, |event| event.id == sandbox_id && event.kind == EventKind::Started).await?;
        until(&mut events, |event| event.id == id && event.kind == EventKind::Started && event.key == key("api"))
            .await?;
        docker.stop(&id).await?;
        until(&mut events, |event| event.kind == EventKind::Died { exit_code: Some(0) }).await?;
        docker.stop(&id).await.context("a second stop")?;
        docker.kill(&id).await.context("a kill of a stopped container")?;

        // The sandbox ends at once when told to: nobody waits ten seconds for a grace period.
        let began = std::time::Instant::now();
        docker.stop(&sandbox_id).await?;
        ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        docker.remove(&id).await?;
        docker.remove(&id).await.context("a second removal")?;
        until(&mut events, |event| event.id == id && event.kind == EventKind::Destroyed).await?;

        node.stop_docker(nix::sys::signal::Signal::SIGTERM)?;
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                ensure!(matches!(error, DockerError::Unavailable { .. }), "{error}");
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended without saying why")
    })
}

#[test]
fn the_engine_checks_and_stops_a_workload_as_its_service_says() -> Result<()> {
    with_engine(async |node, docker| {
        let mut events = docker.events("n1");
        let sandbox_id = running_sandbox(&docker, "api").await?;
        let mut spec =
            workload("api", &sandbox_id, "trap '' TERM; trap 'exit 7' USR1; touch /tmp/up; sleep 1000 & wait");
        spec.service.stop_signal = Some("SIGUSR1".to_owned());
        spec.service.healthcheck = Some(HealthCheck {
            test: vec!["CMD-SHELL".to_owned(), "test -e /tmp/up".to_owned()],
            interval: Some(200),
            ..HealthCheck::default()
        });
        let id = docker.create_workload(&spec).await?;
        docker.start(&id).await?;
        let well = async {
            while docker.inspect(&id).await?.context("it is gone")?.health != Health::Healthy {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(20), well).await.context("it was never healthy")??;
        docker.stop(&id).await?;
        until(&mut events, |event| event.id == id && event.kind == EventKind::Died { exit_code: Some(7) }).await?;
        docker.remove(&id).await?;

        let mut deaf = workload("api", &sandbox_id, "trap '' TERM; sleep 1000 & wait");
        deaf.service.stop_grace_period = 500;
        let id = docker.create_workload(&deaf).await?;
        docker.start(&id).await?;
        let began = std::time::Instant::now();
        docker.stop(&id).await?;
        // A second, where the engine's own patience is ten.
        ensure!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        until(&mut events, |event| event.id == id && event.kind == EventKind::Died { exit_code: Some(137) }).await?;
        node.docker(&["rm", "--force", &id])?;
        Ok(())
    })
}

#[test]
fn errors_name_the_thing_and_the_way_out() -> Result<()> {
    with_engine(async |node, docker| {
        let sandbox_id = running_sandbox(&docker, "api").await?;
        let again = docker.create_sandbox(&sandbox("api")?).await;
        ensure!(matches!(again, Err(DockerError::NameTaken { .. })), "{again:?}");

        let mut missing = workload("api", &sandbox_id, "true");
        missing.service.image = "no-such:1".to_owned();
        let refused = docker.create_workload(&missing).await.err().context("it was made")?.to_string();
        ensure!(refused.contains("no-such:1") && refused.contains("docker load"), "{refused}");
        let refused =
            docker.pull("no-such.invalid/x:1", None, |_| ()).await.err().context("it was pulled")?.to_string();
        ensure!(refused.contains("no-such.invalid/x:1"), "{refused}");

        let mut broken = workload("api", &sandbox_id, "");
        broken.service.entrypoint = Some(vec!["/nope".to_owned()]);
        let id = docker.create_workload(&broken).await?;
        let refused = docker.start(&id).await.err().context("it started")?;
        ensure!(matches!(&refused, DockerError::Start { reason, .. } if reason.contains("/nope")), "{refused}");
        let gone = docker.start("nobody").await;
        ensure!(matches!(gone, Err(DockerError::NoContainer(_))), "{gone:?}");

        node.stop_docker(nix::sys::signal::Signal::SIGTERM)?;
        let down = docker.list("n1").await;
        ensure!(matches!(down, Err(DockerError::Unavailable { .. })), "{down:?}");
        let down = Docker::connect("unix:///nonexistent.sock").await;
        ensure!(matches!(down, Err(DockerError::Unavailable { .. })), "{down:?}");
        let other = Docker::connect("tcp://127.0.0.1:2375").await;
        ensure!(matches!(other, Err(DockerError::Address(_))), "{other:?}");
        Ok(())
    })
}

#[test]
fn a_volume_outlives_its_container() -> Result<()> {
    with_engine(async |node, docker| {
        let environment = key("db").service.environment;
        let name = docker.ensure_volume(&environment, "data").await?;
        ensure!(name == "shop_production_data" && name == volume_name(&environment, "data"));
        ensure!(docker.ensure_volume(&environment, "data").await? == name);
        let sandbox_id = running_sandbox(&docker, "db").await?;
        let mount = VolumeMount { volume: "data".to_owned(), target: "/data".to_owned(), read_only: false };
        let mut events = docker.events("n1");
        for (script, status) in [("echo kept > /data/file", 0), ("grep -q kept /data/file", 0)] {
            let mut spec = workload("db", &sandbox_id, script);
            spec.service.volumes = vec![mount.clone()];
            let id = docker.create_workload(&spec).await?;
            docker.start(&id).await?;
            until(&mut events, |e| e.id == id && e.kind == EventKind::Died { exit_code: Some(status) }).await?;
            docker.remove(&id).await?;
        }
        let labels = node.docker(&["volume", "inspect", "--format", "{{json .Labels}}", &name])?;
        ensure!(labels.contains(r#""skep.environment":"production""#), "{labels}");
        docker.remove_volume(&environment, "data").await?;
        docker.remove_volume(&environment, "data").await.context("a second removal")?;
        Ok(())
    })
}

#[test]
fn the_engine_says_what_the_check_asks() -> Result<()> {
    with_engine(async |_, docker| {
        let info = docker.info().await?;
        ensure!(info.is_new_enough() && info.live_restore && !info.userns_remap && !info.rootless, "{info:?}");
        let image = docker.import_pause().await?;
        docker.remove_pause().await?;
        ensure!(docker.image(&image).await?.is_none(), "{image} is still there");
        Ok(())
    })
}
