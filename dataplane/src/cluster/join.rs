//! `skepd join`.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority;
use super::files::Files;
use super::init::must_be_none;
use super::pause::Pause;
use super::{Answer, ClusterError, Question, Token, Welcome, migrate, talk};
use crate::config::Config;
use crate::daemon::make_directories;
use crate::store::{CLUSTER_KEY_FILE, ClusterKey, schema};

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes this node one of the cluster that a token is of. Tells what it does.
///
/// # Errors
/// [`ClusterError`]; then the node is as it was.
pub async fn join(config: &Config, token: &Token) -> Result<(), ClusterError> {
    let files = Files::of(&config.state_dir);
    must_be_none(config, &files)?;
    make_directories(config).map_err(|error| ClusterError::Directories(Box::new(error)))?;
    let pause = Pause::begin(config).await?;
    let entered = enter(config, &files, token).await;
    let resumed = pause.end(&[]).await;
    entered?;
    let next = if resumed? { "skepd runs" } else { "start skepd" };
    println!("{} is a node of the cluster now: {next}, and `skepctl nodes` shows all of them.", config.node_name);
    Ok(())
}

async fn enter(config: &Config, files: &Files, token: &Token) -> Result<(), ClusterError> {
    if let Some(own) = migrate::own(config)? {
        let environments = own.range(schema::intents().as_str()).len();
        if environments > 0 {
            return Err(ClusterError::NotEmpty { environments });
        }
    }
    println!("Asking {} …", token.address);
    let key = authority::pair()?;
    let question =
        Question { node: config.node_name.clone(), pools: config.pools(), key: STANDARD.encode(key.public_key_raw()) };
    let Welcome { cluster, ca, certificate, key: sealing } = match ask(token.address, token, &question).await? {
        Answer::Welcome(welcome) => welcome,
        Answer::Refused(why) => return Err(ClusterError::Refused(why)),
    };
    let sealing = ClusterKey::from_exposed(&sealing).ok_or(ClusterError::Token)?;
    // What this node has sealed alone goes with its store.
    let own = [config.store_file(), config.state_dir.join(CLUSTER_KEY_FILE)];
    let become_one = || {
        files.identify(&ca, &certificate, &key.serialize_pem())?;
        files.enter(&cluster, &own, || Ok(sealing.keep(&config.state_dir)?))
    };
    become_one().inspect_err(|_| drop(files.remove()))
}

async fn ask(address: SocketAddr, token: &Token, question: &Question) -> Result<Answer, ClusterError> {
    let silent = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(silent()));
    let mut stream = connected.map_err(|source| ClusterError::Unreachable { address, source })?;
    let asked = timeout(PATIENCE, talk::ask(&mut stream, &token.id, &token.secret, question)).await;
    asked.unwrap_or_else(|_| Err(silent().into()))
}
