//! Configs, secrets, and what is taken along from beside the file.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::model::file::{Content, File};

#[test]
fn configs_and_secrets_are_files_with_what_they_hold() {
    let text = r#"
services:
  a:
    image: i
    configs: [site, { source: site, target: /etc/site.conf, mode: "0440", uid: "33", gid: 44 }, inline]
    secrets: [password, { source: key, target: tls.key, mode: 0400 }]
configs:
  site: { file: ./conf/site.conf }
  inline: { content: "for ${WHO}\n" }
  unused: { file: ./nowhere }
secrets:
  password: { environment: PASSWORD }
  key: { file: key.der }
"#;
    let dir = directory(&[("compose.yaml", text), ("conf/site.conf", "listen 80;\n")]);
    std::fs::write(dir.path().join("key.der"), b"\x30\x82\xff").unwrap();
    let Manifest { spec, contents, notes } = load_in(&dir, &[("WHO", "you"), ("PASSWORD", "hunter2")]).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let of = |name: &str| File::of(name.to_owned());
    let expected = [
        ("/etc/site.conf", File { mode: 0o440, uid: 33, gid: 44, ..of("configs.site") }),
        ("/inline", of("configs.inline")),
        ("/run/secrets/password", of("secrets.password")),
        ("/run/secrets/tls.key", File { mode: 0o400, ..of("secrets.key") }),
        ("/site", of("configs.site")),
    ];
    assert_eq!(spec.services["a"].files, expected.map(|(target, file)| (target.to_owned(), file)).into());
    let expected: [(&str, &[u8]); 4] = [
        ("configs.inline", b"for you\n"),
        ("configs.site", b"listen 80;\n"),
        ("secrets.key", b"\x30\x82\xff"),
        ("secrets.password", b"hunter2"),
    ];
    assert_eq!(contents, expected.map(|(name, octets)| (name.to_owned(), Content::new(octets))).into());
}

#[test]
fn files_beside_the_compose_file_are_taken_along() {
    let text = "services:\n  a:\n    image: i\n    volumes:\n      - ./motd:/etc/motd\n      - ./conf.d:/etc/conf.d/:ro\n      \
                - { type: bind, source: motd, target: /motd, read_only: true, bind: { create_host_path: false } }\n";
    let dir = directory(&[("compose.yaml", text), ("motd", "hello"), ("conf.d/b/two", "2"), ("conf.d/one", "1")]);
    let path = |name: &str| dir.path().join(name);
    std::fs::set_permissions(path("conf.d/one"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let Manifest { spec, contents, notes } = load_in(&dir, &[]).unwrap();
    let files = &spec.services["a"].files;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["/etc/conf.d/b/two", "/etc/conf.d/one", "/etc/motd", "/motd"]);
    let (one, own) = (&files["/etc/conf.d/one"], std::fs::metadata(path("conf.d/one")).unwrap());
    assert_eq!((one.mode, one.uid, one.gid), (0o750, own.uid(), own.gid()));
    assert_eq!(contents[&one.content], Content::new("1"));
    assert_eq!(contents[&files["/motd"].content], Content::new("hello"));
    let notes = lines(&dir, &notes);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[1].contains("./conf.d is taken along as it is now (2 files)"), "{}", notes[1]);
}

#[test]
fn what_cannot_be_taken_along_is_refused_with_the_way_out() {
    let cases = [
        ("    volumes: [./gone:/app]", "services.a.volumes: "),
        (
            "    volumes: [.:/app]",
            "services.a.volumes: . is a directory of the host, and services run on any node; for files that are only read",
        ),
        ("    volumes: ['/dev/null:/x']", "services.a.volumes: mounting /dev/null of the host would void"),
        ("    volumes: [./compose.yaml:/x, ./compose.yaml:/x]", "services.a.volumes: /x is there twice; keep"),
        ("    volumes: [./compose.yaml:x]", "services.a: \"x\" is no path for a file; write an absolute"),
        ("    volumes: [./compose.yaml:/x/y]\n    tmpfs: /x", "services.a: the file /x/y would be below /x"),
        ("    volumes: [./compose.yaml:/etc/hosts]", "services.a: /etc/hosts is made for each container; remove it"),
        ("    volumes: [./compose.yaml:/proc/x]", "services.a: /proc/x would be hidden behind what the kernel shows"),
        ("    volumes: [./compose.yaml:/x]\n    read_only: true", "services.a.read_only: a container that cannot"),
        ("    secrets: [password]", "services.a.secrets: there is no password among secrets; declare it"),
        ("    configs: [{target: /x}]", "services.a.configs: it has no source; add source: with one of configs"),
        ("    configs: [c]\nconfigs: {c: {}}", "configs.c: it says nothing of what it holds; write one of file:"),
        ("    configs: [c]\nconfigs: {c: {content: a, file: compose.yaml}}", "configs.c: it says twice what"),
        ("    configs: [c]\nconfigs: {c: {external: true}}", "configs.c.external: is kept outside of this file"),
        ("    secrets: [s]\nsecrets: {s: {environment: NO}}", "secrets.s.environment: the variable NO is not set"),
        ("    secrets: [s]\nsecrets: {s: {content: x}}", "secrets.s.content: is not a known key"),
        ("    secrets: [s]\nsecrets: {s: {file: /dev/zero}}", "secrets.s.file: /dev/zero can't be read"),
        ("    secrets: [{source: s, mode: 9}]\nsecrets: {s: {file: compose.yaml}}", "services.a.secrets.mode: \"9\""),
    ];
    for (body, expected) in cases {
        let text = format!("services:\n  a:\n    image: i\n{body}\n");
        let all = errors(&text);
        assert!(all.iter().any(|error| error.contains(&format!(": {expected}"))), "{all:#?}\n{expected}");
    }
    let large = directory(&[("compose.yaml", "services: {a: {image: i, volumes: [./large:/x]}}"), ("large", "")]);
    std::fs::write(large.path().join("large"), vec![0; crate::model::file::FILE_MAX + 1]).unwrap();
    let error = load_in(&large, &[]).unwrap_err().to_string();
    assert!(error.contains("has more than 524288 octets"), "{error}");
}
