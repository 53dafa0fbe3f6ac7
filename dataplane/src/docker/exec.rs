use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::TryStreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::error::is_absent;
use super::{Docker, DockerError};

/// What is run in a container of a user's takes seconds, or hangs.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of its standard output that are kept.
const OUTPUT_MAX: usize = 64 << 10;

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Exit status.
    pub status: i64,
    /// Its standard output, or what of it is kept.
    pub stdout: String,
}

impl Docker {
    /// Runs a command in a container, with these variables (`NAME=value`) and with `stdin` to read. What it says on
    /// standard error is thrown away: it may repeat what it was given.
    ///
    /// # Errors
    /// [`DockerError::NoContainer`], [`DockerError::Request`]; also when it does not end within half a minute.
    pub async fn exec(
        &self,
        container: &str,
        command: Vec<String>,
        variables: Vec<String>,
        stdin: &[u8],
    ) -> Result<Executed, DockerError> {
        let failed = || self.failed("run a command in container", container);
        let client = self.client().await?.with_timeout(EXEC_TIMEOUT);
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(variables),
            cmd: Some(command),
            ..ExecConfig::default()
        };
        let id = match client.create_exec(container, config).await {
            Ok(created) => created.id,
            Err(error) if is_absent(&error) => return Err(DockerError::NoContainer(container.to_owned())),
            Err(error) => return Err(failed()(error)),
        };
        let run = async {
            let started = client.start_exec(&id, Some(StartExecOptions::default())).await?;
            let mut stdout = Vec::new();
            if let StartExecResults::Attached { mut output, mut input } = started {
                // One that ends before it has read everything says why by its status.
                let _read = input.write_all(stdin).await;
                let _closed = input.shutdown().await;
                while let Some(part) = output.try_next().await? {
                    if let LogOutput::StdOut { message } = part {
                        let room = OUTPUT_MAX.saturating_sub(stdout.len()).min(message.len());
                        stdout.extend_from_slice(&message[..room]);
                    }
                }
            }
            let ended = client.inspect_exec(&id).await?;
            let stdout = String::from_utf8_lossy(&stdout).into_owned();
            Ok(Executed { status: ended.exit_code.unwrap_or(-1), stdout })
        };
        let ended = tokio::time::timeout(EXEC_TIMEOUT, run).await;
        ended.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError)).map_err(failed())
    }
}
