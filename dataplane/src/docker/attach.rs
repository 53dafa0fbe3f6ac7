//! A command in a container, with somebody at its other end.

use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::ResizeExecOptions;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use super::error::is_absent;
use super::{Docker, DockerError};

/// Between tries to set the size of a terminal whose command is about to begin.
const FITS: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(100), Duration::from_millis(300)];

/// A command, and how it is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// As `user[:group]`, by name or number; [`None`]: the container's.
    pub user: Option<String>,
    /// Where it starts; [`None`]: the container's working directory.
    pub directory: Option<String>,
    /// Further variables, as `NAME=value`.
    pub environment: Vec<String>,
    /// It gets a terminal of this size; without, its output and its errors are told apart.
    pub terminal: Option<Size>,
}

/// Of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A command that runs.
pub struct Attached {
    /// The engine's name for it.
    pub id: String,
    /// What it reads.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it says, until it ends.
    pub output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
}

impl Docker {
    /// Starts a command in a container. It goes on when this is dropped, with nothing more to read.
    ///
    /// # Errors
    /// [`DockerError::NoContainer`], [`DockerError::Command`] as where there is no such program, [`DockerError::Request`].
    pub async fn attach(&self, container: &str, command: &Command) -> Result<Attached, DockerError> {
        let failed = || self.failed("run a command in container", container);
        let client = self.client().await?;
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(command.terminal.is_some()),
            console_size: command.terminal.map(|size| vec![size.rows.into(), size.columns.into()]),
            env: Some(command.environment.clone()),
            cmd: Some(command.command.clone()),
            user: command.user.clone(),
            working_dir: command.directory.clone(),
            ..ExecConfig::default()
        };
        let id = match client.create_exec(container, config).await {
            Ok(created) => created.id,
            Err(error) if is_absent(&error) => return Err(DockerError::NoContainer(container.to_owned())),
            Err(error) => return Err(failed()(error)),
        };
        let options = StartExecOptions { tty: command.terminal.is_some(), ..StartExecOptions::default() };
        match client.start_exec(&id, Some(options)).await {
            Ok(StartExecResults::Attached { output, input }) => {
                if let Some(size) = command.terminal {
                    self.fit(&id, size).await;
                }
                Ok(Attached { id, input, output })
            }
            Ok(StartExecResults::Detached) => Err(DockerError::Command {
                command: command.command.join(" "),
                reason: "the engine leaves it to itself".to_owned(),
            }),
            Err(Error::DockerResponseServerError { status_code: 400, message }) => {
                Err(DockerError::Command { command: command.command.join(" "), reason: message })
            }
            Err(error) => Err(failed()(error)),
        }
    }

    /// Tells it as soon as the command has begun, which the engine does not tell: before 23.0 it knows no size in advance.
    async fn fit(&self, attached: &str, size: Size) {
        for pause in FITS {
            if self.resize(attached, size).await.is_ok() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells a command's terminal how large it is.
    ///
    /// # Errors
    /// [`DockerError::Request`], as when it has ended.
    pub async fn resize(&self, attached: &str, size: Size) -> Result<(), DockerError> {
        let options = ResizeExecOptions { h: size.rows.into(), w: size.columns.into() };
        let resized = self.client().await?.resize_exec(attached, options).await;
        resized.map_err(self.failed("resize the terminal of", attached))
    }

    /// How a command ended; [`None`]: it runs.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn exit_status(&self, attached: &str) -> Result<Option<i64>, DockerError> {
        let inspected = self.client().await?.inspect_exec(attached).await;
        Ok(inspected.map_err(self.failed("inspect the command", attached))?.exit_code)
    }
}
