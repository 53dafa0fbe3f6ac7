//! Clients of a real etcd.

use std::time::Duration;

use anyhow::Result;
use dataplane::store::{Etcd, Store as _};
use tests::Machine;

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
    at(member.machine(), &[format!("http://{CLIENTS}")], work)
}

/// Works with a client on this machine, of members that may answer or not.
pub(crate) fn at<T: Send>(
    machine: &Machine,
    members: &[String],
    work: impl AsyncFnOnce(Etcd) -> Result<T> + Send,
) -> Result<T> {
    machine.netns()?.enter(|| {
        // On this thread alone: what it opens is of that namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Etcd::connect(members, "/skep", Default::default()).await?).await })
    })
}

/// A client, once the member answers; from the machine's netns.
pub(crate) async fn client() -> Result<Etcd> {
    let store = Etcd::connect(&[format!("http://{CLIENTS}")], "/skep", Default::default()).await?;
    wait_for(&store).await;
    Ok(store)
}

/// It may have been started just now.
async fn wait_for(store: &Etcd) {
    while let Err(error) = store.get("/").await {
        println!("{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
