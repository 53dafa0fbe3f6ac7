//! An etcd of one member, in a machine of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane::store::{Etcd, Store as _};
use tests::engine::etcd;
use tests::{Machine, Process};

const CLIENTS: &str = "127.0.0.1:2379";

/// It runs until it is dropped.
pub(crate) struct Member {
    machine: Machine,
    arguments: [String; 3],
    process: Mutex<Process>,
}

impl Member {
    pub(crate) fn start() -> Result<Self> {
        let machine = Machine::new("etcd")?;
        let data = machine.directory().join("etcd").display().to_string();
        let arguments = [etcd()?.display().to_string(), "--data-dir".to_owned(), data];
        let process = Mutex::new(machine.spawn("etcd", &arguments)?);
        Ok(Self { machine, arguments, process })
    }

    /// SIGKILL, and a new one on the same data.
    pub(crate) fn restart(&self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).kill()
    }

    /// A new one on the same data.
    pub(crate) fn start_again(&self) -> Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        *process = self.machine.spawn("etcd", &self.arguments)?;
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.machine.directory()
    }

    /// Works with a client of it, once it answers.
    pub(crate) fn with<T: Send>(&self, work: impl AsyncFnOnce(Etcd) -> Result<T> + Send) -> Result<T> {
        self.alone(async |store: Etcd| {
            wait_for(&store).await;
            work(store).await
        })
    }

    /// Works with a client of it, whether it answers or not.
    pub(crate) fn alone<T: Send>(&self, work: impl AsyncFnOnce(Etcd) -> Result<T> + Send) -> Result<T> {
        self.machine.netns()?.enter(|| {
            // On this thread alone: what it opens is of that namespace.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(connect().await?).await })
        })
    }
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
