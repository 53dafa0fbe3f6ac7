//! Clients of a real etcd.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane::store::{Etcd, Store as _};

const CLIENTS: &str = "127.0.0.1:2379";

/// Works with a client, once the member answers.
pub(crate) fn with<T: Send>(member: &tests::Etcd, work: impl AsyncFnOnce(Etcd) -> Result<T> + Send) -> Result<T> {
    alone(member, async |store: Etcd| {
        wait_for(&store).await;
        work(store).await
    })
}

/// Works with a client, whether the member answers or not.
pub(crate) fn alone<T: Send>(member: &tests::Etcd, work: impl AsyncFnOnce(Etcd) -> Result<T> + Send) -> Result<T> {
    member.machine().netns()?.enter(|| {
        // On this thread alone: what it opens is of that namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(connect().await?).await })
    })
}

/// A client, once the member answers; from the machine's netns.
pub(crate) async fn client() -> Result<Etcd> {
    let store = connect().await?;
    wait_for(&store).await;
    Ok(store)
}

async fn connect() -> Result<Etcd> {
    Ok(Etcd::connect(&[format!("http://{CLIENTS}")], "/skep", Default::default()).await?)
}

/// It may have been started just now.
async fn wait_for(store: &Etcd) {
    while let Err(error) = store.get("/").await {
        println!("{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Forgets the history up to a revision; by etcd's own gateway, from the machine's netns.
pub(crate) fn compact(revision: u64) -> Result<()> {
    let body = format!("{{\"revision\":{revision},\"physical\":true}}");
    let mut connection = TcpStream::connect(CLIENTS)?;
    write!(
        connection,
        "POST /v3/kv/compaction HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}
