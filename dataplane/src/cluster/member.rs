//! The member of etcd that the first node runs: with TLS, and for those alone who have a certificate of the authority.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::authority::{self, Authority};
use super::files::Files;
use super::{Cluster, ClusterError};
use crate::private::failed;

/// etcd's port for clients.
const PORT: u16 = 2379;
/// Where it would speak with other members: on this machine alone, beside the 2380 of a distribution's own etcd.
const PEERS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 12_380);
/// What all keys begin with.
const PREFIX: &str = "/skep";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// The cluster whose member answers at an address.
pub(super) fn cluster(address: IpAddr) -> Cluster {
    let member = SocketAddr::new(address, PORT);
    Cluster { members: vec![format!("https://{member}")], prefix: PREFIX.to_owned() }
}

/// Writes its certificate, key and configuration (YAML, as JSON is).
///
/// # Errors
/// [`ClusterError`].
pub(super) fn configure(files: &Files, node: &str, address: IpAddr, authority: &Authority) -> Result<(), ClusterError> {
    let key = authority::pair()?;
    let certificate = authority.member(&[address, PEERS.ip()], &key)?;
    files.put(&files.member_key(), &key.serialize_pem())?;
    files.put(&files.member_certificate(), &certificate)?;
    let client = format!("https://{}", SocketAddr::new(address, PORT));
    let peers = format!("https://{PEERS}");
    let security = json!({
        "cert-file": files.member_certificate(),
        "key-file": files.member_key(),
        "trusted-ca-file": files.ca(),
        "client-cert-auth": true,
    });
    let config = json!({
        "name": node,
        "data-dir": files.member_data(),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": format!("{node}={peers}"),
        "client-transport-security": security,
        "peer-transport-security": security,
        // Nodes hold what there is; of what was, an hour lets their watches go on after a break.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
    });
    files.put(&files.member_config(), &format!("{config:#}\n"))
}

/// The member while the cluster is made; later it is run as a service.
pub(super) struct Member {
    process: Child,
    program: std::path::PathBuf,
    files: Files,
}

impl Member {
    /// Starts it.
    ///
    /// # Errors
    /// [`ClusterError::Program`], [`ClusterError::PrivateFile`].
    pub(super) fn start(program: &Path, files: &Files) -> Result<Self, ClusterError> {
        let log = files.member_log();
        let log = File::create(&log).map_err(failed("write", &log))?;
        let both = log.try_clone().map_err(failed("write", &files.member_log()))?;
        let mut command = Command::new(program);
        command.arg("--config-file").arg(files.member_config()).kill_on_drop(true);
        // Its variables would come before its configuration.
        command.env_clear().stdin(Stdio::null()).stdout(log).stderr(both);
        let process = command.spawn();
        let process = process.map_err(|source| ClusterError::Program { path: program.to_owned(), source })?;
        Ok(Self { process, program: program.to_owned(), files: files.clone() })
    }

    /// Waits until it answers somebody with such options.
    ///
    /// # Errors
    /// [`ClusterError::Silent`].
    pub(super) async fn until_it_answers(
        &mut self,
        members: &[String],
        options: &ConnectOptions,
    ) -> Result<(), ClusterError> {
        let begun = Instant::now();
        loop {
            let options = options.clone().with_timeout(PATIENCE / 10).with_connect_timeout(PATIENCE / 10);
            let asked = async { Client::connect(members, Some(options)).await?.status().await };
            let Err(error) = asked.await else { return Ok(()) };
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(self.silent(format!("({}) ended with {status}", self.program.display())));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.silent(format!("does not answer within {} s ({error})", PATIENCE.as_secs())));
            }
            sleep(RETRY).await;
        }
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// [`ClusterError::Silent`].
    pub(super) async fn stop(mut self) -> Result<(), ClusterError> {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)
                .map_err(|errno| self.silent(format!("cannot be ended ({errno})")))?;
        }
        self.process.wait().await.map_err(|error| self.silent(format!("does not end ({error})")))?;
        Ok(())
    }

    fn silent(&self, what: String) -> ClusterError {
        ClusterError::Silent { what, log: self.files.member_log() }
    }
}
