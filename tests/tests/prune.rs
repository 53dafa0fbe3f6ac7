//! What nothing needs any more goes when people say so, and nothing else with it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::Node;
use tests::images::{Image, Registry};

const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];

/// Pushes an image that is like no other, as `app:<number>`; the node does not keep it.
fn push(node: &Node, registry: &Registry, number: u32) -> Result<String> {
    let container = node.docker(&["create", Image::Musl.tag()])?;
    let change = format!("ENV NUMBER={number}");
    node.docker(&["commit", "--change", &change, &container, "marked:latest"])?;
    node.docker(&["rm", &container])?;
    let name = format!("app:{number}");
    node.push("marked:latest", registry, &name)?;
    node.docker(&["rmi", "marked:latest"])?;
    Ok(registry.image(&name))
}

fn web(image: &str, volume: bool) -> String {
    let service = json!({
        "image": image, "command": ["sleep", "inf"], "stop_grace_period": "0s",
        "volumes": if volume { json!(["data:/data"]) } else { json!([]) },
        "deploy": { "update_config": { "monitor": "0s" } },
    });
    let volumes = if volume { json!({ "data": {} }) } else { json!({}) };
    json!({ "services": { "web": service }, "volumes": volumes }).to_string()
}

/// Kind and name of each line.
fn lines(rows: &Value) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().context("no list")?;
    Ok(rows.iter().map(|row| (text(&row["kind"]), text(&row["name"]))).collect())
}

fn has(node: &Node, image: &str) -> Result<bool> {
    Ok(node.docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?.lines().any(|name| name == image))
}

#[test]
fn old_deployments_go_with_the_images_that_were_pulled_for_them_alone() -> Result<()> {
    let node = Node::start()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Musl])?;
    let images = [1, 2, 3].map(|number| push(&node, &registry, number));
    let [first, mine, third] = images;
    let (first, mine, third) = (first?, mine?, third?);
    // A person has this one.
    node.docker(&["pull", &mine])?;
    for image in [&first, &mine, &third, Image::Musl.tag()] {
        node.up("shop", "production", &web(image, false))?;
    }
    node.skepctl(&[&PROJECT[..], &["deploy", "web"]].concat())?;
    ensure!(has(&node, &first)? && has(&node, &mine)? && has(&node, &third)?, "they were pulled");

    let nothing = node.skepctl_json(&["prune"])?;
    ensure!(lines(&nothing)?.is_empty(), "ten are kept: {nothing}");
    let planned = lines(&node.skepctl_json(&["prune", "--keep", "1", "--dry-run"])?)?;
    let deployment = |number: u32| ("deployment".to_owned(), format!("shop/production/web.{number}"));
    let image = |name: &str| ("image".to_owned(), name.to_owned());
    let expected = [deployment(1), deployment(2), deployment(3), image(&first), image(&third)];
    ensure!(planned == expected, "{planned:#?}");
    ensure!(has(&node, &first)? && has(&node, &third)?, "a dry run removes nothing");

    let done = lines(&node.skepctl_json(&["prune", "--keep", "1"])?)?;
    ensure!(done == expected, "{done:#?}");
    ensure!(!has(&node, &first)? && !has(&node, &third)?, "{first} and {third} are needed by nobody");
    ensure!(has(&node, &mine)? && has(&node, Image::Musl.tag())?, "a person's own image");
    let left = node.skepctl_json(&[&PROJECT[..], &["history", "web"]].concat())?;
    let left: Vec<&Value> = left.as_array().context("no list")?.iter().map(|row| &row["deployment"]).collect();
    ensure!(left == [&json!(4), &json!(5)], "what serves, and what it goes back to: {left:?}");
    ensure!(lines(&node.skepctl_json(&["prune", "--keep", "1"])?)?.is_empty(), "it is all gone");
    node.skepctl(&[&PROJECT[..], &["rollback", "web"]].concat())?;
    Ok(())
}

#[test]
fn volumes_go_only_when_their_environment_has_and_somebody_says_yes() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Musl])?;
    for environment in ["production", "staging", "preview"] {
        node.up("shop", environment, &web(Image::Musl.tag(), true))?;
    }
    node.docker(&["volume", "create", "mine"])?;
    node.down("shop", "staging")?;
    node.down("shop", "preview")?;
    let volumes = || node.docker(&["volume", "ls", "--format", "{{.Name}}"]);
    let all = volumes()?;
    ensure!(all.lines().count() == 4, "{all}");
    node.skepctl(&["prune"])?;
    let planned = lines(&node.skepctl_json(&["prune", "--volumes", "--dry-run"])?)?;
    let expected = ["preview", "staging"].map(|it| ("volume".to_owned(), format!("shop/{it}/data")));
    ensure!(planned == expected, "{planned:#?}");
    let said = node.skepctl_output(&["prune", "--volumes"])?;
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(!said.status.success() && told.contains("--yes"), "{told}");
    ensure!(volumes()? == all, "nobody said yes");
    ensure!(lines(&node.skepctl_json(&["prune", "--volumes", "--yes"])?)? == expected, "as planned");
    ensure!(volumes()?.lines().collect::<Vec<_>>() == ["mine", "shop_production_data"], "{}", volumes()?);
    let table = node.skepctl_output(&["prune", "--volumes"])?;
    ensure!(table.status.success(), "nothing is left to be asked about");
    Ok(())
}
