//! A database keeps its credentials as long as its volume lives.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::images::Database;
use tests::wait_for;

use crate::stack::{PATIENCE, PROJECT, Stack, database, shell};

#[test]
fn a_database_that_was_taken_away_comes_back_with_its_data_and_what_opens_them() -> Result<()> {
    let services = json!({
        "postgres": database(Database::Postgres, "postgres"),
        "mariadb": database(Database::Mariadb, "mariadb"),
        "shell": shell(),
    });
    let stack = Stack::up("again", &services)?;
    stack.patiently("shell", "psql \"$DATABASE_URL\" -Atqc 'CREATE TABLE kept AS SELECT 17 AS n'")?;
    let kept = "CREATE TABLE IF NOT EXISTS kept (n INT); INSERT INTO kept VALUES (18)";
    wait_for("MariaDB's answer", PATIENCE, || stack.mariadb("shell", None, kept).map(Some))?;
    let urls =
        || -> Result<_> { Ok((stack.variable("shell", "DATABASE_URL")?, stack.variable("shell", "MYSQL_URL")?)) };
    let before = urls()?;
    stack.node.down(PROJECT, stack.environment)?;
    ensure!(!stack.node.replicas()?.iter().any(|replica| replica.environment == stack.environment));
    stack.up_again(&services)?;
    ensure!(urls()? == before, "a volume that is kept was given other credentials");
    let answer = stack.patiently("shell", "psql \"$DATABASE_URL\" -Atc 'SELECT n FROM kept'")?;
    ensure!(answer == "17", "{answer}");
    let answer =
        wait_for("MariaDB's answer", PATIENCE, || stack.mariadb("shell", None, "SELECT n FROM kept").map(Some))?;
    ensure!(answer.lines().last() == Some("18"), "{answer}");
    Ok(())
}
