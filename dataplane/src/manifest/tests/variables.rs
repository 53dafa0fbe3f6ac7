//! What variables of Compose itself say: `COMPOSE_PROJECT_NAME` and `COMPOSE_PROFILES`.

use super::*;

#[test]
fn the_project_and_its_profiles_may_be_said_beside_the_file() {
    let text = "name: file\nservices:\n  web: {image: 'i:${COMPOSE_PROJECT_NAME}', hostname: '${OTHER}'}\n  \
                debug: {image: i, profiles: [debug]}\n  more: {image: i, profiles: [more]}\n";
    let dot_env = "COMPOSE_PROJECT_NAME=beside\nCOMPOSE_PROFILES= debug ,, more\nOTHER=${COMPOSE_PROJECT_NAME}\n";
    let dir = directory(&[("compose.yaml", text), (".env", dot_env)]);
    let read = |project: Option<&str>, profiles: &[&str], variables: &[(&str, &str)]| {
        let value = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let profiles = profiles.iter().map(ToString::to_string).collect();
        let options = Options { project: project.map(Into::into), profiles, ..options(&dir, &value) };
        let spec = load(&options).unwrap().spec;
        let services: Vec<&str> = spec.services.keys().map(String::as_str).collect();
        (spec.key.project, services.join(" "), spec.services["web"].image.clone())
    };
    let all = |project: &str, services: &str| (project.to_owned(), services.to_owned(), format!("i:{project}"));
    assert_eq!(read(None, &[], &[]), all("beside", "debug more web"));
    assert_eq!(read(None, &["debug"], &[]), all("beside", "debug web"));
    assert_eq!(read(None, &[], &[("COMPOSE_PROFILES", "")]), all("beside", "web"));
    assert_eq!(read(None, &[], &[("COMPOSE_PROJECT_NAME", "caller")]), all("caller", "debug more web"));
    // An empty one says nothing, and the file is asked.
    assert_eq!(read(None, &[], &[("COMPOSE_PROJECT_NAME", "")]), all("file", "debug more web"));
    assert_eq!(read(Some("said"), &[], &[]), all("said", "debug more web"));
}
