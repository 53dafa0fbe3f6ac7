//! One promise, two stores: the embedded one, and a real etcd.

#[path = "stores/conformance.rs"]
mod conformance;

use std::time::Duration;

use anyhow::Result;
use dataplane::store::{Embedded, Etcd};
use tests::engine::etcd;
use tests::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_conforms() -> Result<()> {
    let directory = tempfile::tempdir()?;
    conformance::all(&Embedded::open(&directory.path().join("store.redb"))?).await;
    Ok(())
}

#[test]
fn etcd_conforms() -> Result<()> {
    let machine = Machine::new("etcd")?;
    let program = etcd()?.display().to_string();
    let data = machine.directory().join("etcd").display().to_string();
    let _member = machine.spawn("etcd", &[&program, "--data-dir", &data])?;
    machine.netns()?.enter(|| {
        // On this thread alone: what it opens is of that namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let members = ["http://127.0.0.1:2379".to_owned()];
        runtime.block_on(async {
            let store = loop {
                match Etcd::connect(&members, "/skep", Default::default()).await {
                    Ok(store) => break store,
                    Err(error) => println!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            conformance::all(&store).await;
            Ok(())
        })
    })
}
