//! Several files, services that extend others, projects that include others: by examples of the Compose Specification
//! and by what goes wrong.

use super::*;

/// Reads files of a directory that has these; the first ones are named.
fn load_named(
    dir: &tempfile::TempDir,
    named: &[&str],
    profiles: &[&str],
    variables: &[(&str, &str)],
) -> Result<Manifest, ManifestError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    load(&Options {
        files: named.iter().map(|name| dir.path().join(name)).collect(),
        profiles: profiles.iter().map(ToString::to_string).collect(),
        project: Some("shop".into()),
        environment: "production".into(),
        variables: &|name| variables.get(name).map(ToString::to_string),
    })
}

/// `a` over `b` over …, all of them with the service `web`.
fn merged(files: &[&str]) -> ServiceSpec {
    let names: Vec<String> = (0..files.len()).map(|number| format!("{number}.yaml")).collect();
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    let bodies: Vec<String> = files.iter().map(|body| format!("services:\n  web:\n{body}\n")).collect();
    let files: Vec<(&str, &str)> = named.iter().copied().zip(bodies.iter().map(String::as_str)).collect();
    let dir = directory(&files);
    let manifest = load_named(&dir, &named, &[], &[("X", "1")]).unwrap_or_else(|error| panic!("{error}"));
    manifest.spec.services["web"].clone()
}

fn refused(dir: &tempfile::TempDir, named: &[&str]) -> Vec<String> {
    match load_named(dir, named, &[], &[]) {
        Ok(manifest) => panic!("it was accepted: {manifest:?}"),
        Err(ManifestError::Refused(errors)) => {
            let prefix = format!("{}/", dir.path().display());
            errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_later_file_changes_what_an_earlier_one_says_key_by_key() {
    let web = merged(&[
        "    image: one\n    command: [a, b]\n    entrypoint: e\n    environment: {A: 1, B: 1}\n    labels: [x=1, y=1]\n    \
         volumes: ['data:/data', 'more:/more']\n    deploy: {replicas: 2, update_config: {delay: 5s}}\n    working_dir: /one\nvolumes: {data: , more: , other: }",
        "    image: two\n    command: [c]\n    environment: ['B=${X}2', C=3]\n    labels: {y: 2}\n    volumes: \
         ['other:/data:ro']\n    deploy: {update_config: {parallelism: 1}}\n    entrypoint:\n",
        "    scale: 2\n    environment: {D: 4}",
    ]);
    assert_eq!((web.image.as_str(), web.working_dir.as_deref(), web.replicas), ("two", Some("/one"), 2));
    assert_eq!((web.command, web.entrypoint), (Some(vec!["c".into()]), None));
    assert_eq!(web.environment, pairs([("A", "1"), ("B", "12"), ("C", "3"), ("D", "4")]));
    assert_eq!(web.labels, pairs([("x", "1"), ("y", "2")]));
    let volumes: Vec<_> = web.volumes.iter().map(|v| (v.volume.as_str(), v.target.as_str(), v.read_only)).collect();
    assert_eq!(volumes, [("other", "/data", true), ("more", "/more", false)]);
    assert_eq!((web.update.delay, web.update.parallelism), (5_000, 1));
}

#[test]
fn an_override_keeps_what_it_extends() {
    let dir = directory(&[
        ("a.yaml", "services: {web: {image: old, user: root}, base: {image: i, working_dir: /base}}"),
        ("b.yaml", "services:\n  web: !override\n    extends: {service: base, file: a.yaml}\n    user: me\n"),
    ]);
    let web = load_named(&dir, &["a.yaml", "b.yaml"], &[], &[]).unwrap().spec.services["web"].clone();
    assert_eq!((web.image.as_str(), web.working_dir.as_deref(), web.user.as_deref()), ("i", Some("/base"), Some("me")));
}

#[test]
fn reset_takes_away_and_override_takes_the_place() {
    let base = "    image: one\n    environment: {A: 1, B: 1}\n    command: [a]\n    labels: {x: 1, y: 1}";
    let web =
        merged(&[base, "    environment: !override {C: 3}\n    command: !reset []\n    labels: {x: !reset null}"]);
    assert_eq!((web.environment, web.command), (pairs([("C", "3")]), None));
    assert_eq!(web.labels, pairs([("y", "1")]));
    let alone = merged(&["    image: one\n    command: !reset [a]\n    environment: {A: !reset 1, B: 2}"]);
    assert_eq!((alone.command, alone.environment), (None, pairs([("B", "2")])));
    let again = merged(&[base, "    command: !reset null", "    command: [z]"]);
    assert_eq!(again.command, Some(vec!["z".into()]));
}

#[test]
fn lists_and_mappings_of_names_are_merged_alike() {
    let dir = directory(&[
        (
            "1.yaml",
            "services:\n  web: {image: i, networks: [front, back], depends_on: [db]}\n  db: {image: d, networks: [back]}\n\
             networks: {front: , back: }\n",
        ),
        (
            "2.yaml",
            "services:\n  web:\n    networks: {back: {aliases: [w]}}\n    depends_on: {db: {condition: service_healthy}}\n  \
             db: {healthcheck: {test: 'true'}}\n",
        ),
    ]);
    let spec = load_named(&dir, &["1.yaml", "2.yaml"], &[], &[]).unwrap().spec;
    let web = &spec.services["web"];
    assert_eq!(web.networks.keys().collect::<Vec<_>>(), ["back", "front"]);
    assert!(web.networks["back"].aliases.contains("w") && web.networks["front"].aliases.is_empty());
    assert_eq!(web.depends_on["db"], DependsOn::ServiceHealthy);
}

#[test]
fn a_dependency_without_a_condition_takes_the_place_of_one_with() {
    let long = "services:\n  web:\n    image: i\n    depends_on:\n      db: {condition: service_healthy, required: false, restart: true}\n      \
                more: {condition: service_healthy}\n  db: {image: d}\n  more: {image: d}\n";
    let dir = directory(&[
        ("long.yaml", long),
        ("short.yaml", "services: {web: {depends_on: [db]}}"),
        (
            "extends.yaml",
            "services: {web: {extends: {file: long.yaml, service: web}, depends_on: [db]}, db: {image: d}, more: {image: d}}",
        ),
    ]);
    let depends_on =
        |named: &[&str]| load_named(&dir, named, &[], &[]).unwrap().spec.services["web"].depends_on.clone();
    let (started, healthy) = (DependsOn::ServiceStarted, DependsOn::ServiceHealthy);
    let pair = |db, more| BTreeMap::from([("db".to_owned(), db), ("more".to_owned(), more)]);
    assert_eq!(depends_on(&["long.yaml", "short.yaml"]), pair(started, healthy));
    assert_eq!(depends_on(&["extends.yaml"]), pair(started, healthy));
    assert_eq!(depends_on(&["extends.yaml", "long.yaml"]), pair(healthy, healthy));
    // It is needed again, too.
    let gone = directory(&[
        ("long.yaml", &long.replace("  db: {image: d}\n", "")),
        ("short.yaml", "services: {web: {depends_on: [db]}}"),
    ]);
    assert!(load_named(&gone, &["long.yaml"], &[], &[]).is_ok());
    assert!(refused(&gone, &["long.yaml", "short.yaml"])[0].contains("there is no service db"));
}

#[test]
fn what_cannot_be_merged_names_both_places() {
    let dir = directory(&[
        ("1.yaml", "services:\n  web:\n    image: i\n    healthcheck:\n      test: 'true'\n"),
        ("2.yaml", "services:\n  web:\n    healthcheck: [a]\n"),
    ]);
    let errors = refused(&dir, &["1.yaml", "2.yaml"]);
    assert!(
        errors[0].starts_with("2.yaml:3:18: services.web.healthcheck: is a list, and a mapping in 1.yaml:5"),
        "{errors:?}"
    );
}

#[test]
fn an_error_is_in_the_file_that_has_it() {
    let dir = directory(&[
        ("1.yaml", "services:\n  web: {image: i}\n"),
        ("2.yaml", "services:\n  web:\n    restart: maybe\n    prots: []\n"),
    ]);
    let errors = refused(&dir, &["1.yaml", "2.yaml"]);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|error| error.starts_with("2.yaml:")), "{errors:?}");
}

#[test]
fn a_service_is_another_one_with_changes() {
    let dir = directory(&[
        (
            "compose.yaml",
            "services:\n  base: {image: i, environment: {A: 1, B: 1}, command: [x]}\n  web:\n    extends: base\n    \
             environment: {B: 2}\n  more:\n    extends: {service: web}\n    image: j\n  other:\n    extends: {file: common/base.yaml, service: theirs}\n",
        ),
        ("common.env", "WRONG=1\n"),
    ]);
    std::fs::create_dir(dir.path().join("common")).unwrap();
    std::fs::write(dir.path().join("common/env"), "HERE=1\n").unwrap();
    let theirs =
        "services:\n  theirs: {extends: lower, image: 'k:${TAG}'}\n  lower: {image: l, env_file: env, user: '7'}\n";
    std::fs::write(dir.path().join("common/base.yaml"), theirs).unwrap();
    let spec = load_named(&dir, &["compose.yaml"], &[], &[("TAG", "3")]).unwrap_or_else(|e| panic!("{e}")).spec;
    let of = |name: &str| (spec.services[name].image.as_str(), spec.services[name].environment.clone());
    assert_eq!(of("web"), ("i", pairs([("A", "1"), ("B", "2")])));
    assert_eq!(of("more"), ("j", pairs([("A", "1"), ("B", "2")])));
    assert_eq!(of("other"), ("k:3", pairs([("HERE", "1")])));
    assert_eq!(spec.services["other"].user.as_deref(), Some("7"));
    assert_eq!(spec.services["more"].command, Some(vec!["x".into()]));
    assert_eq!(spec.services.len(), 4);
}

#[test]
fn what_is_extended_must_be_there_and_end() {
    let cases = [
        (
            "  a: {extends: b}\n  b: {extends: a}",
            "compose.yaml:2:16: services.a.extends: b extends a extends b, and so on",
        ),
        ("  a: {extends: a}", "a extends a, and so on; end with a service that extends none"),
        ("  a: {extends: nobody}", "there is no service \"nobody\" in"),
        ("  a: {extends: {file: gone.yaml, service: b}}", "gone.yaml can't be read"),
        ("  a: {extends: {file: other.yaml}}", "no service is given"),
        ("  a: {extends: {file: other.yaml, service: b}}", "there is no service \"b\" in"),
        ("  a: {extends: [b]}", "is a list"),
    ];
    for (body, says) in cases {
        let text = format!("services:\n{body}\n");
        let dir = directory(&[("compose.yaml", &text), ("other.yaml", "services: {c: {image: i}}\n")]);
        let errors = refused(&dir, &["compose.yaml"]);
        assert!(errors.iter().any(|error| error.contains(says) || error == says), "{body}: {errors:?}");
    }
}

#[test]
fn an_included_project_has_its_own_directory_and_variables() {
    let dir = directory(&[
        (
            "compose.yaml",
            "include: [db/compose.yaml]\nservices:\n  web: {image: 'w:${TAG}', depends_on: [db]}\n  db: {user: '9'}\n",
        ),
        (".env", "TAG=outer\n"),
    ]);
    std::fs::create_dir(dir.path().join("db")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join("db").join(name), text).unwrap();
    write(".env", "TAG=inner\nOWN=1\n");
    write("vars", "V=1\n");
    write(
        "compose.yaml",
        "name: theirs\nservices:\n  db: {image: 'd:${TAG}-${OWN}', env_file: vars, user: '1', volumes: ['data:/data']}\nvolumes: {data: }\n",
    );
    let manifest = load_named(&dir, &["compose.yaml"], &[], &[]).unwrap_or_else(|error| panic!("{error}"));
    let db = &manifest.spec.services["db"];
    // What is known around it comes first; what is said around it, last.
    assert_eq!((db.image.as_str(), db.user.as_deref()), ("d:outer-1", Some("9")));
    assert_eq!(db.environment, pairs([("V", "1")]));
    assert!(manifest.spec.volumes.contains("data") && manifest.spec.services.contains_key("web"));
}

#[test]
fn an_include_may_say_more_and_must_not_go_round() {
    let dir = directory(&[
        (
            "compose.yaml",
            "include:\n  - path: [one.yaml, two.yaml]\n    project_directory: sub\n    env_file: vars\nservices:\n  web: {image: i}\n",
        ),
        ("one.yaml", "services:\n  a: {image: 'a:${T}', env_file: e}\n"),
        ("two.yaml", "services:\n  a: {user: '5'}\n"),
        ("vars", "T=7\n"),
        ("round.yaml", "include: [back.yaml]\n"),
        ("back.yaml", "include: [round.yaml]\nservices: {a: {image: i}}\n"),
        ("gone.yaml", "include: [nowhere.yaml]\nservices: {a: {image: i}}\n"),
    ]);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/e"), "E=1\n").unwrap();
    let spec = load_named(&dir, &["compose.yaml"], &[], &[]).unwrap_or_else(|error| panic!("{error}")).spec;
    let a = &spec.services["a"];
    assert_eq!((a.image.as_str(), a.user.as_deref()), ("a:7", Some("5")));
    assert_eq!(a.environment, pairs([("E", "1")]));
    let errors = refused(&dir, &["round.yaml"]);
    assert!(
        errors.iter().any(|e| e.starts_with("back.yaml:1:11: include: ") && e.contains("includes itself")),
        "{errors:?}"
    );
    let errors = refused(&dir, &["gone.yaml"]);
    assert!(errors[0].starts_with("gone.yaml:1:11: include: ") && errors[0].contains("nowhere.yaml can't be read"));
}

#[test]
fn a_service_of_a_profile_is_there_with_it() {
    let text = "services:\n  web: {image: i}\n  debug: {image: j, profiles: [debug, dev]}\n  odd: {image: k, profiles: ['${P}']}\n";
    let dir = directory(&[("compose.yaml", text)]);
    let services = |profiles: &[&str]| {
        let manifest = load_named(&dir, &["compose.yaml"], profiles, &[("P", "p")]).unwrap();
        (manifest.spec.services.into_keys().collect::<Vec<_>>().join(" "), manifest.notes.len())
    };
    assert_eq!(services(&[]), ("web".to_owned(), 2));
    assert_eq!(services(&["dev"]), ("debug web".to_owned(), 1));
    assert_eq!(services(&["p", "other"]), ("odd web".to_owned(), 1));
    assert_eq!(services(&["*"]), ("debug odd web".to_owned(), 0));
}

#[test]
fn what_is_put_together_has_a_limit() {
    let large: String = (0..40_000).map(|number| format!("      K{number}: v\n")).collect();
    let mut text = format!("services:\n  a:\n    image: i\n    environment:\n{large}");
    for number in 0..10 {
        text.push_str(&format!("  b{number}: {{extends: a}}\n"));
    }
    let dir = directory(&[("compose.yaml", &text)]);
    let errors = refused(&dir, &["compose.yaml"]);
    assert!(errors.iter().any(|error| error.contains("values with all that is included and extended")), "{errors:?}");
    let chain: String = (1..40).map(|number| format!("  a{number}: {{extends: a{}}}\n", number - 1)).collect();
    let dir = directory(&[("compose.yaml", &format!("services:\n  a0: {{image: i}}\n{chain}"))]);
    assert!(refused(&dir, &["compose.yaml"])[0].contains("and so on"));
}

#[test]
fn all_files_as_one_are_read_as_they_are() {
    let dir = directory(&[
        (
            "one/compose.yaml",
            "services:\n  web:\n    image: \"web:${TAG}\"\n    environment: {A: '1', B: yes, C: '$${D}', E: 'a: b # c', F: \"\"}\n    \
             env_file: [vars, {path: more, required: false}]\n    ports: ['80:80']\n    command: [run, '-x', \"two\\nlines\", 'null']\n    \
             volumes:\n      - {type: volume, source: data, target: /data}\n    healthcheck: {test: [CMD, 'true'], retries: 3}\n    \
             networks: {default: }\n    deploy: {replicas: 2}\n    labels: {}\n  debug: {image: d, profiles: [debug]}\nvolumes: {data: }\n\
             include: [../two/db.yaml]\nx-own: {a: [1, [2, 3]]}\n",
        ),
        ("one/.env", "TAG=7\n"),
        ("one/vars", "V=1\n"),
        ("two/db.yaml", "services: {db: {image: db, env_file: theirs}}"),
        ("two/theirs", "W=2\n"),
    ]);
    let options = |file: &str| Options {
        files: vec![dir.path().join(file)],
        profiles: Vec::new(),
        project: Some("shop".into()),
        environment: "production".into(),
        variables: &|_| None,
    };
    let (first, text) = resolve(&options("one/compose.yaml")).unwrap();
    std::fs::write(dir.path().join("all.yaml"), &text).unwrap();
    let (second, again) = resolve(&options("all.yaml")).unwrap();
    assert_eq!(first.spec, second.spec, "{text}");
    assert_eq!(text, again);
    assert!(text.starts_with("name: shop\nservices:\n") && !text.contains("debug"), "{text}");
    assert!(text.contains("  web:\n    image: \"web:7\"\n"), "{text}");
    assert_eq!(first.spec.services["web"].environment["C"], "${D}");
    assert_eq!(first.spec.services["db"].environment["W"], "2");
}
