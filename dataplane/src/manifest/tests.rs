//! The rules of the file format, each by a file; and no input that makes the reader panic.

use std::collections::BTreeMap;

use super::*;
use crate::model::spec::{DependsOn, PullPolicy, RestartPolicy, ServiceType};

mod assemble;
mod egress;
mod files;
mod fuzz;
mod golden;
mod keys;
mod limits;
mod links;
mod placement;
mod projects;
mod published;
mod rollout;
mod settings;
mod variables;

/// A directory with files of these names.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load_in(dir: &tempfile::TempDir, variables: &[(&str, &str)]) -> Result<Manifest, ManifestError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    load(&options(dir, &|name| variables.get(name).map(ToString::to_string)))
}

fn options<'a>(dir: &tempfile::TempDir, variables: &'a dyn Fn(&str) -> Option<String>) -> Options<'a> {
    Options {
        files: vec![dir.path().join("compose.yaml")],
        profiles: Vec::new(),
        project: Some("shop".into()),
        environment: "production".into(),
        variables,
    }
}

fn load_text(text: &str) -> Result<Manifest, ManifestError> {
    load_in(&directory(&[("compose.yaml", text)]), &[])
}

fn spec(text: &str) -> EnvironmentSpec {
    load_text(text).unwrap_or_else(|error| panic!("{error}")).spec
}

/// The errors without the path of the file.
fn errors(text: &str) -> Vec<String> {
    let dir = directory(&[("compose.yaml", text)]);
    match load_in(&dir, &[]) {
        Ok(manifest) => panic!("it was accepted: {manifest:?}"),
        Err(ManifestError::Refused(errors)) => lines(&dir, &errors),
        Err(other) => panic!("{other}"),
    }
}

fn lines(dir: &tempfile::TempDir, diagnostics: &[Diagnostic]) -> Vec<String> {
    let prefix = format!("{}/compose.yaml:", dir.path().display());
    diagnostics.iter().map(|d| d.to_string().replace(&prefix, "")).collect()
}

/// An error of a file whose only service is `a` with these lines.
fn service_error(body: &str) -> String {
    let text = format!("services:\n  a:\n    image: i\n{body}\n");
    let all = errors(&text);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

const FULL: &str = r#"
name: ignored
version: "3.9"
x-env: &env
  LOG: ${LEVEL:-info}
services:
  My API:
    image: example/api:${TAG}
    command: serve --name "my api"
    entrypoint: ["/bin/tini", "--"]
    environment:
      <<: *env
      PORT: 8080
      DEBUG: false
      EMPTY: ""
      HOME:
      NOPE:
    env_file:
      - one.env
      - path: two.env
        required: false
    depends_on:
      db: { condition: service_healthy }
    networks:
      front:
      back:
        aliases: [Backend, api_v1]
    volumes:
      - data:/data:ro
      - type: volume
        source: data
        target: /more
    restart: on-failure:5
    deploy: { replicas: 3 }
    labels: ["a=b", "c"]
    label_file: some.labels
    pull_policy: always
    working_dir: /app
    user: 1000:1000
    x-skep: { type: web }
    ports: ["80:80"]
  db:
    image: registry.example/library/postgres:17
    networks: [back]
    scale: 1
  debug:
    image: busybox
    privileged: true
    profiles: [debug]
networks:
  front:
  back: { internal: true }
  unused:
volumes:
  data:
"#;

#[test]
fn a_file_with_every_honoured_key_is_read_as_compose_reads_it() {
    let dir = directory(&[
        ("compose.yaml", FULL),
        ("one.env", "A=1\nLOG=file\n"),
        ("some.labels", "a=file\nd=e\n"),
        (".env", "TAG=dot\nHOME=dot\n"),
    ]);
    let Manifest { spec, notes, .. } = load_in(&dir, &[("HOME", "/home/me")]).unwrap();
    assert_eq!(spec.key.to_string(), "shop/production");
    assert_eq!(spec.services.keys().collect::<Vec<_>>(), ["db", "my-api"]);
    assert_eq!(
        spec.networks.iter().map(|(n, s)| (n.as_str(), s.internal)).collect::<Vec<_>>(),
        [("back", true), ("front", false)]
    );
    let api = &spec.services["my-api"];
    assert_eq!((api.image.as_str(), api.kind, api.replicas), ("example/api:dot", ServiceType::Web, 3));
    assert_eq!(api.command.as_ref().unwrap(), &["serve", "--name", "my api"]);
    assert_eq!(api.entrypoint.as_ref().unwrap(), &["/bin/tini", "--"]);
    let environment: Vec<_> = api.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected =
        [("A", "1"), ("DEBUG", "false"), ("EMPTY", ""), ("HOME", "/home/me"), ("LOG", "info"), ("PORT", "8080")];
    assert_eq!(environment, expected);
    assert_eq!(api.depends_on["db"], DependsOn::ServiceHealthy);
    assert_eq!(api.networks["back"].aliases.iter().collect::<Vec<_>>(), ["api-v1", "backend"]);
    assert_eq!(
        api.volumes.iter().map(|v| (v.target.as_str(), v.read_only)).collect::<Vec<_>>(),
        [("/data", true), ("/more", false)]
    );
    assert_eq!(api.restart, RestartPolicy::OnFailure(5));
    let labels: Vec<_> = api.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((labels.as_slice(), api.pull), (&[("a", "b"), ("c", ""), ("d", "e")][..], PullPolicy::Always));
    assert_eq!((api.working_dir.as_deref(), api.user.as_deref()), (Some("/app"), Some("1000:1000")));
    let db = &spec.services["db"];
    assert_eq!((db.kind, db.restart, db.replicas), (ServiceType::Database, RestartPolicy::UnlessStopped, 1));
    assert!(api.has_egress(&spec.networks) && !db.has_egress(&spec.networks));
    let notes = lines(&dir, &notes);
    let expected = [
        "3:1: version: has no effect",
        "7:3: services.My API: My API is called my-api in its networks, and does not resolve as it is written here; write my-api",
        "17:7: services.My API.environment.NOPE: is left out",
        "41:5: services.My API.ports: has no effect here; ",
        "49:5: services.debug: is left out",
    ];
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    assert!(notes.iter().zip(expected).all(|(note, expected)| note.starts_with(expected)), "{notes:#?}");
}

#[test]
fn types_follow_the_image_unless_said_otherwise() {
    let cases = [
        ("postgres", ServiceType::Database),
        ("mariadb:11@sha256:0", ServiceType::Database),
        ("localhost:5000/x/mysql", ServiceType::Database),
        ("mongo:7", ServiceType::Database),
        ("redis:7", ServiceType::Cache),
        ("valkey/valkey", ServiceType::Cache),
        ("postgres-exporter", ServiceType::Service),
        ("nginx", ServiceType::Service),
    ];
    for (image, kind) in cases {
        assert_eq!(spec(&format!("services: {{a: {{image: \"{image}\"}}}}")).services["a"].kind, kind, "{image}");
    }
    let text = "services: {a: {image: postgres, x-skep: {type: service}}}";
    assert_eq!(spec(text).services["a"].kind, ServiceType::Service);
}

#[test]
fn without_networks_everything_is_in_default() {
    let read = spec("services: {a: {image: i}, b: {image: i, networks: [default]}}");
    assert_eq!(read.networks.keys().collect::<Vec<_>>(), ["default"]);
    let read = spec("services: {a: {image: i}}\nnetworks: {default: {internal: true}}");
    assert!(!read.services["a"].has_egress(&read.networks));
}

#[test]
fn the_project_comes_from_the_caller_or_the_file_or_the_directory() {
    let dir = tempfile::Builder::new().prefix("My_Shop ").rand_bytes(0).tempdir().unwrap();
    let file = dir.path().join("compose.yaml");
    let project = |text: &str, project: Option<&str>| {
        std::fs::write(&file, text).unwrap();
        let options = Options {
            files: vec![file.clone()],
            profiles: Vec::new(),
            project: project.map(Into::into),
            environment: "Pre Prod".into(),
            variables: &|_| None,
        };
        load(&options).unwrap().spec.key.to_string()
    };
    assert_eq!(project("name: File\nservices: {a: {image: i}}", Some("Caller X")), "caller-x/pre-prod");
    assert_eq!(project("name: File\nservices: {a: {image: i}}", None), "file/pre-prod");
    assert_eq!(project("services: {a: {image: i}}", None), "my-shop/pre-prod");
}

#[test]
fn every_error_of_a_file_is_told_with_its_place_key_reason_and_remedy() {
    let text = "services:\n  a:\n    imgae: i\n    privileged: true\n    restart: sometimes\n    restart: always\n  b:\n    image: ${\n    networks: [nowhere]\n";
    let expected = [
        "3:5: services.a.imgae: is not a known key; did you mean image?",
        "4:5: services.a.privileged: would void the isolation between environments; remove it",
        "5:14: services.a.restart: \"sometimes\" is no restart policy; ",
        "6:5: the key \"restart\" is here a second time; keep one of them",
        "8:12: services.b.image: \"${\" is no form of ${VARIABLE}; write $$ for a dollar sign",
        "9:16: services.b.networks.nowhere: there is no such network; declare it under networks:",
    ];
    let errors = errors(text);
    for line in expected {
        assert!(errors.iter().any(|error| error.starts_with(line)), "{line}\n{errors:#?}");
    }
    assert!(errors.iter().any(|error| error.contains("services.a: it has no image")));
    assert!(errors.iter().all(|error| !error.contains('\n') && error.contains("; ")), "{errors:#?}");
}

#[test]
fn what_would_void_isolation_is_refused_by_name() {
    let cases = [
        "    privileged: true",
        "    pid: host",
        "    ipc: host",
        "    network_mode: host",
        "    network_mode: service:b",
        "    cap_add: [SYS_ADMIN]",
        "    cap_add: [BPF]",
        "    devices: [/dev/kvm]",
        "    security_opt: [seccomp=unconfined]",
        "    cgroup: host",
        "    userns_mode: host",
        "    uts: host",
        "    use_api_socket: true",
        "    gpus: all",
        "    volumes: ['/var/run/docker.sock:/var/run/docker.sock']",
        "    volumes: ['/:/host']",
        "    volumes: ['/sys/fs/bpf:/x']",
        "    volumes: [{type: bind, source: /run/skep, target: /x}]",
        "    volumes: ['./x/../../run/docker.sock:/x']",
    ];
    for body in cases {
        let error = service_error(body);
        let key = body.trim().split(':').next().unwrap();
        assert!(error.starts_with("4:") && error.contains(&format!("services.a.{key}")), "{error}");
    }
    let error = service_error("    volumes: ['/var/run/docker.sock:/var/run/docker.sock']");
    assert!(error.contains("would void the isolation"), "{error}");
    // What says no asks for nothing.
    let text = "services: {a: {image: i, privileged: false, cap_add: [], devices: [], read_only: false}}";
    assert!(load_text(text).unwrap().notes.is_empty());
}

#[test]
fn mounts_that_are_no_named_volumes_are_refused_with_the_way_out() {
    let cases = [
        ("    volumes: [data]", "4:15: services.a.volumes: \"data\" is a volume without a name; declare a volume"),
        (
            "    volumes: ['${NOWHERE}:/data:ro']",
            "4:15: services.a.volumes: there is nothing before the colon of \":/data:ro\"; name a volume",
        ),
        ("    volumes: [data:/data]", "4:5: services.a.volumes: there is no volume \"data\"; declare it"),
        (
            "    volumes: [{type: npipe, target: /x}]",
            "4:15: services.a.volumes: mounts of type \"npipe\" are not supported",
        ),
        ("    volumes: [data:data]\nvolumes: {data: }", "4:5: services.a.volumes: \"data\" is no path to mount at"),
        (
            "    volumes: [{source: data, target: '/x:rshared'}]\nvolumes: {data: }",
            "4:5: services.a.volumes: \"/x:rshared\" is no path to mount at",
        ),
        ("    volumes: [d:/x, d:/x/]\nvolumes: {d: }", "4:5: services.a.volumes: /x is mounted twice"),
        ("    volumes: [d:/x:nope]\nvolumes: {d: }", "4:15: services.a.volumes: the option \"nope\" is not known"),
        ("volumes: {d: {external: true}}", "4:15: volumes.d.external: a volume belongs to its environment alone"),
        ("volumes: {d: {driver: nfs}}", "4:15: volumes.d.driver: the volume driver nfs is not supported yet"),
    ];
    for (body, expected) in cases {
        let error = service_error(body);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn names_that_clash_or_do_not_fit_are_refused() {
    let clash = errors("services:\n  My API: {image: i}\n  my-api: {image: i}\n");
    assert_eq!(
        clash,
        ["3:3: services.my-api: \"My API\" in line 2 and \"my-api\" both become \"my-api\"; rename one of them"]
    );
    let cases = [
        ("services: {\"a.b\": {image: i}}", "contains '.'"),
        ("services: {localhost: {image: i}}", "the name localhost is reserved"),
        ("services: {internal: {image: i}}", "the name internal is reserved"),
        (&format!("services: {{{}: {{image: i}}}}", "x".repeat(64)), "64 characters long"),
        (&format!("services: {{{}: {{image: i, scale: 10}}}}", "x".repeat(61)), "host name"),
        (
            "services: {a: {image: i, networks: {default: {aliases: [B]}}}, b: {image: i}}",
            "the alias b is the name of a service",
        ),
        (
            "services: {a: {image: i, networks: {default: {aliases: [x]}}}, b: {image: i, networks: {default: {aliases: [x]}}}}",
            "the alias x is one of service a already",
        ),
        ("services: {a: {image: i, networks: {default: {aliases: [localhost]}}}}", "reserved"),
        (
            "services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [c]}, c: {image: i, depends_on: [a]}}",
            "a → b → c → a",
        ),
        ("services: {a: {image: i, depends_on: [a]}}", "a → a"),
        ("services: {a: {image: i, depends_on: [zz]}}", "there is no service zz"),
        ("services: {a: {image: 'no image'}}", "is no image"),
        ("services: {a: {image: i, labels: {skep.project: x}}}", "Skep's own"),
        ("services: {a: {image: i, networks: {default: {ipv4_address: 1.2.3.4}}}}", "addresses are assigned"),
        ("services: {a: {image: i}}\nnetworks: {x: {external: true}}", "a network belongs to its environment alone"),
        ("services: {a: {image: i, scale: 2, deploy: {replicas: 3}}}", "deploy.replicas"),
        ("services: {a: {image: i, deploy: {replicas: -1}}}", "no number"),
        ("services: {a: {image: i, x-skep: {tpye: web}}}", "did you mean type?"),
        ("x-skep: {type: web}\nservices: {a: {image: i}}", "move it to a service"),
        ("services: {a: {image: i, command: \"sh -c 'x\"}}", "a single quote is not closed"),
        ("services: {a: {image: i, env_file: nope.env}}", "nope.env can't be read"),
        ("services: {a: {image: i, label_file: nope.labels}}", "nope.labels can't be read"),
        ("services: {a: {image: i, pull_policy: sometimes}}", "use always, missing or never"),
        ("services: {a: {image: \"${A:?say which}\"}}", "the variable A is not set; say which"),
        ("services: {a: {command: x}}", "it has no image; name one in image"),
        ("services: [a]", "write a mapping"),
        ("services:", "there is no service to start"),
        ("", "the file is empty"),
        ("services: {a: {image: i}", "not YAML"),
    ];
    for (text, expected) in cases {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
        assert!(errors[0].contains(expected), "{text}: {errors:#?}");
    }
}

#[test]
fn more_networks_than_bits_are_refused() {
    let names: Vec<String> = (0..65).map(|i| format!("n{i}")).collect();
    let list = names.join(", ");
    let text = format!("services: {{a: {{image: i, networks: [{list}]}}}}\nnetworks: {{{}: }}", names.join(": , "));
    assert!(errors(&text)[0].contains("65 networks are in use, 64 is the most"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load_in(&directory(&[]), &[]).unwrap_err().to_string();
    assert!(error.contains("compose.yaml: cannot be read") && error.contains("-f"), "{error}");
    let dir = directory(&[("compose.yaml", "services: {a: {image: i}}"), (".env", "A=1\n=x")]);
    let error = load_in(&dir, &[]).unwrap_err().to_string();
    assert!(error.contains("/.env:2:1: ") && error.contains("no variable's name"), "{error}");
}
