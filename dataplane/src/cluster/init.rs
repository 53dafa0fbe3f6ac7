//! `skepd cluster init`.

use std::net::IpAddr;
use std::path::Path;

use super::authority::{self, Authority};
use super::files::Files;
use super::member::{self, Member};
use super::pause::Pause;
use super::users::{self, Users};
use super::{ClusterError, migrate, reach};
use crate::config::Config;
use crate::daemon::make_directories;
use crate::install::ETCD_UNIT;
use crate::membership;
use crate::model::Admission;
use crate::private::failed;
use crate::store::{ClusterKey, Store as _, Txn, schema};

/// Makes a cluster of this node, whose state becomes the cluster's: with `program` as etcd. Tells what it does.
///
/// # Errors
/// [`ClusterError`]; then the node is as it was.
pub async fn init(config: &Config, program: &Path) -> Result<(), ClusterError> {
    let files = Files::of(&config.state_dir);
    must_be_none(config, &files)?;
    let address = membership::own_address(config.node_address).ok_or(ClusterError::NoAddress)?;
    make_directories(config).map_err(|error| ClusterError::Directories(Box::new(error)))?;
    let pause = Pause::begin(config).await?;
    let made = make(config, &files, program, address).await;
    let before = if made.is_ok() { &[ETCD_UNIT][..] } else { &[] };
    let resumed = pause.end(before).await;
    made?;
    if resumed? {
        println!("This is the first node. `skepctl nodes invite` lets others in.");
    } else {
        println!(
            "This is the first node. Start etcd (`{} --config-file {}`) and skepd; `skepctl nodes invite` lets others in.",
            program.display(),
            files.member_config().display()
        );
    }
    println!(
        "Keep a copy of {} where nobody else finds it: without it no node can be let in.",
        files.authority().display()
    );
    Ok(())
}

/// Refuses a node that is of a cluster, or was to become one.
///
/// # Errors
/// [`ClusterError::Already`], [`ClusterError::Told`], [`ClusterError::Leftover`].
pub(super) fn must_be_none(config: &Config, files: &Files) -> Result<(), ClusterError> {
    if files.cluster()?.is_some() {
        return Err(ClusterError::Already { path: files.record() });
    }
    if config.etcd.is_some() {
        return Err(ClusterError::Told);
    }
    match files.directory().exists() {
        true => Err(ClusterError::Leftover { path: files.directory().to_owned() }),
        false => Ok(()),
    }
}

async fn make(config: &Config, files: &Files, program: &Path, address: IpAddr) -> Result<(), ClusterError> {
    let made = begin(config, files, program, address).await;
    if made.is_err() {
        // What it says of why is told; the rest is of no use.
        files.remove().map_err(failed("remove", files.directory()))?;
    }
    made
}

async fn begin(config: &Config, files: &Files, program: &Path, address: IpAddr) -> Result<(), ClusterError> {
    println!("Making an authority, and a member of etcd at {address} …");
    let node = &config.node_name;
    let (authority, cluster) = (Authority::make()?, member::cluster(address));
    let (user, key) = (users::name(node)?, authority::pair()?);
    let ca = authority.certificate()?;
    files.put(&files.authority(), &authority.key())?;
    files.identify(&ca, &authority.client(&user, &key)?, &key.serialize_pem())?;
    member::configure(files, node, address, &authority)?;
    let mut member = Member::start(program, files)?;
    let etcd = files.etcd(&cluster);
    let options = reach::options(&etcd)?;
    member.until_it_answers(&cluster.members, &options).await?;
    Users::connect(&cluster.members, options).await?.begin(&cluster.prefix, &user).await?;
    let store = reach::store(&etcd).await?;
    if let Some(snapshot) = migrate::own(config)? {
        println!("Moving {} entries of this node's state there …", snapshot.entries.len());
        migrate::fill(&store, &snapshot).await?;
    }
    ClusterKey::of_store(&config.state_dir, &store).await?;
    let admission = Admission { user, admits: true };
    store.txn(Txn::default().put(&schema::admission(node), &admission)?).await?;
    drop(store);
    member.stop().await?;
    files.enter(&cluster, &[config.store_file()], || Ok(()))
}
