//! A variable alone opens each database; without, and with another password, nobody comes in.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::images::Database;

use crate::stack::{Stack, cache, database, shell};

#[test]
fn each_database_opens_to_its_variable_alone_and_to_nothing_else() -> Result<()> {
    let stack = Stack::up(
        "login",
        &json!({
            "postgres": database(Database::Postgres, "postgres"),
            "orders": database(Database::Postgres, "orders"),
            "mariadb": database(Database::Mariadb, "mariadb"),
            "redis": cache(Database::Redis),
            "valkey": cache(Database::Valkey),
            "mongo": { "image": "mongo:8", "command": ["sleep", "inf"], "stop_signal": "SIGKILL" },
            "shell": shell(),
        }),
    )?;
    postgres(&stack)?;
    mariadb(&stack)?;
    caches(&stack)?;
    mongo(&stack)
}

fn postgres(stack: &Stack) -> Result<()> {
    let query = "-Atc 'SELECT current_user, current_database(), inet_server_addr()'";
    let mut servers = Vec::new();
    for (variable, service) in
        [("DATABASE_URL", "postgres"), ("POSTGRES_DATABASE_URL", "postgres"), ("ORDERS_DATABASE_URL", "orders")]
    {
        let answer = stack.patiently("shell", &format!("psql \"${variable}\" {query}"))?;
        let replica = stack.replica(service)?;
        let [user, database, address] = [0, 1, 2].map(|at| answer.split('|').nth(at).unwrap_or_default().to_owned());
        ensure!(user == stack.variable(service, "POSTGRES_USER")?, "{variable} logs in as {user}");
        ensure!(database == "app", "{variable} leads to the database {database}");
        ensure!([replica.address()?, replica.address6()?].contains(&address.as_str()), "{variable} leads to {address}");
        servers.push((user, address));
    }
    ensure!(servers[0] == servers[1] && servers[0] != servers[2], "{servers:?}");
    for (host, password) in [("orders", "PGPASSWORD=wrong"), ("postgres", "PGPASSWORD=wrong"), ("postgres", "")] {
        let user = stack.variable(host, "POSTGRES_USER")?;
        let says = if password.is_empty() { "no password supplied" } else { "password authentication failed" };
        stack.refused("shell", &format!("{password} psql -w -h {host} -U {user} app -c 'SELECT 1'"), says)?;
    }
    // One's password does not open the other.
    let url = stack.variable("shell", "ORDERS_DATABASE_URL")?.replace("@orders.", "@postgres.");
    stack.refused("shell", &format!("psql '{url}' -c 'SELECT 1'"), "password authentication failed")
}

fn mariadb(stack: &Stack) -> Result<()> {
    let query = "SELECT current_user(), database(), @@hostname; CREATE TABLE t (n INT); DROP TABLE t";
    let answer =
        tests::wait_for("MariaDB's answer", crate::stack::PATIENCE, || stack.mariadb("shell", None, query).map(Some))?;
    let user = stack.variable("mariadb", "MARIADB_USER")?;
    ensure!(answer.starts_with(&format!("{user}@%\tapp\tmariadb-1")), "{answer}");
    for password in ["wrong", ""] {
        stack.mariadb_refuses("shell", password)?;
    }
    ensure!(stack.variable("shell", "MARIADB_MYSQL_URL")? == stack.variable("shell", "MYSQL_URL")?);
    Ok(())
}

fn caches(stack: &Stack) -> Result<()> {
    let variables = [("REDIS_URL", "redis"), ("REDIS_REDIS_URL", "redis"), ("VALKEY_REDIS_URL", "valkey")];
    for (variable, service) in variables {
        let client = format!("{service}-cli");
        let set =
            stack.patiently("shell", &format!("{client} --no-auth-warning -u \"${variable}\" SET who {service}"))?;
        ensure!(set == "OK", "{variable}: {set}");
        // The health check that people write.
        let from_within = stack.sh(service, &format!("{client} --no-auth-warning GET who"))?;
        ensure!(from_within == service, "{service} has {from_within:?}");
        for (password, says) in [("", "NOAUTH"), ("REDISCLI_AUTH=wrong", "WRONGPASS")] {
            stack.refused("shell", &format!("{password} {client} -h {service} GET who 2>&1"), says)?;
        }
        // It gave up root's rights.
        let uid = stack.sh(service, "stat -c %U /proc/1")?;
        ensure!(uid == service, "{service} runs as {uid}");
    }
    Ok(())
}

/// Up to what the image and its clients are handed.
fn mongo(stack: &Stack) -> Result<()> {
    let own = stack.variables("mongo")?;
    let [user, password, database] = ["USERNAME", "PASSWORD"]
        .map(|name| format!("MONGO_INITDB_ROOT_{name}"))
        .into_iter()
        .chain(["MONGO_INITDB_DATABASE".to_owned()])
        .map(|name| own.get(&name).cloned().unwrap_or_default())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default();
    ensure!(user.starts_with("app_") && password.len() == 32 && database == "app", "{:?}", own.keys());
    let url = format!("mongodb://{user}:{password}@mongo.internal:27017/{database}?authSource=admin");
    for variable in ["MONGODB_URL", "MONGO_MONGODB_URL"] {
        let given = stack.variable("shell", variable)?;
        ensure!(given == url, "{variable} is {given}, wanted {url}");
    }
    Ok(())
}
