//! What holds for as long as the engine's process lives.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::HostConfigLogConfig;

use super::{Docker, DockerError};

/// Until an answer must have begun: starting a container on a busy machine takes long.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The engine answers these from memory.
const TIMEOUT_VERSION: Duration = Duration::from_secs(5);

/// A connection, in the newest version of the API that both ends know.
#[derive(Debug)]
pub(super) struct Session {
    client: bollard::Docker,
    /// Where output goes for a container that does not say; `None` until one was made.
    log_default: Option<HostConfigLogConfig>,
}

impl Docker {
    /// The connection; made when there is none.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`].
    pub(super) async fn client(&self) -> Result<bollard::Docker, DockerError> {
        let known = self.session().as_ref().map(|session| session.client.clone());
        match known {
            Some(client) => Ok(client),
            None => self.renew().await,
        }
    }

    /// Forgets the connection: the engine at its other end is gone.
    pub fn disconnect(&self) {
        *self.session() = None;
    }

    /// Negotiates again and forgets what was known: the engine may be another one now, which no longer speaks the
    /// version that was agreed on, or has another configuration.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`].
    pub(super) async fn renew(&self) -> Result<bollard::Docker, DockerError> {
        let unavailable = |source: bollard::errors::Error| DockerError::Unavailable {
            address: self.address.clone(),
            source: source.into(),
        };
        let client = bollard::Docker::connect_with_unix(&self.address, TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(unavailable)?
            .with_timeout(TIMEOUT_VERSION)
            .negotiate_version()
            .await
            .map_err(unavailable)?
            .with_timeout(TIMEOUT);
        *self.session() = Some(Session { client: client.clone(), log_default: None });
        Ok(client)
    }

    /// Whether the engine answers within `patience`.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`].
    pub async fn ping(&self, patience: Duration) -> Result<(), DockerError> {
        let asked = async { self.client().await?.ping().await.map_err(self.failed("reach", "the engine")) };
        let late = |_| DockerError::Unavailable {
            address: self.address.clone(),
            source: format!("no answer within {} s", patience.as_secs()).into(),
        };
        let heard = tokio::time::timeout(patience, asked).await.map_err(late).flatten();
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        *silent = heard.as_ref().err().map(|_| silent.unwrap_or_else(Instant::now));
        heard.map(drop)
    }

    /// For how long pings have not been answered; `None` when the last one was.
    pub fn silence(&self) -> Option<Duration> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.map(|since| since.elapsed())
    }

    pub(super) fn log_default(&self) -> Option<HostConfigLogConfig> {
        self.session().as_ref().and_then(|session| session.log_default.clone())
    }

    pub(super) fn learn_log_default(&self, config: &HostConfigLogConfig) {
        if let Some(session) = self.session().as_mut() {
            session.log_default = Some(config.clone());
        }
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        // Each write is one assignment.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
