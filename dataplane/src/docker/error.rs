use bollard::errors::Error;

use super::Docker;

/// What bollard said, without its type.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the engine refused, and for which object.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Not `unix://`: a sandbox's namespace can be entered on the engine's own machine only.
    #[error("{0:?} is no address of a Docker Engine: give --docker unix:///var/run/docker.sock")]
    Address(String),
    /// Nobody answers.
    #[error("Docker does not answer at {address}: start it (systemctl start docker), or name another with --docker")]
    Unavailable {
        /// As given.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No such image, and none could be had.
    #[error(
        "the image {image} cannot be had: check its name, load it with `docker load` or `docker pull`, or, if it is \
        private, `skepctl registry login`: {reason}"
    )]
    Image {
        /// Reference as written.
        image: String,
        /// The engine's or the registry's answer.
        reason: String,
    },
    /// Its registry does not let us have it.
    #[error(
        "the image {image} cannot be had, {registry} asks who pulls: `skepctl registry login {registry}`: {reason}"
    )]
    Login {
        /// Reference as written.
        image: String,
        /// Its registry.
        registry: String,
        /// What it said.
        reason: String,
    },
    /// No such container.
    #[error("there is no container {0}: it was removed by somebody else; the next resync makes it again")]
    NoContainer(String),
    /// No such file or directory in a container.
    #[error("there is no {path} in the container: see what there is with `skepctl exec`")]
    NoFile {
        /// As asked for.
        path: String,
    },
    /// A name that somebody else's container has.
    #[error("another container is already named {name}: remove or rename it (docker rm {name})")]
    NameTaken {
        /// Container name.
        name: String,
    },
    /// The container was made but its process could not be started.
    #[error("the container {container} does not start: {reason}")]
    Start {
        /// Name or id.
        container: String,
        /// The engine's answer.
        reason: String,
    },
    /// A command in a container could not be started.
    #[error("{command:?} does not start: {reason}")]
    Command {
        /// With its arguments.
        command: String,
        /// The engine's answer.
        reason: String,
    },
    /// Any other refusal.
    #[error("Docker cannot {operation} {object}")]
    Request {
        /// A verb, such as `create container`.
        operation: &'static str,
        /// Container, image or volume.
        object: String,
        /// The engine's answer.
        #[source]
        source: Cause,
    },
}

impl Docker {
    /// For `map_err`: tells "nobody answers" from "it refuses".
    pub(super) fn failed(&self, operation: &'static str, object: &str) -> impl Fn(Error) -> DockerError + use<> {
        let address = self.address.clone();
        let object = object.to_owned();
        move |error| match error {
            Error::SocketNotFoundError(_)
            | Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::RequestTimeoutError => DockerError::Unavailable { address: address.clone(), source: error.into() },
            refused => DockerError::Request { operation, object: object.clone(), source: refused.into() },
        }
    }
}

/// HTTP status and text of a refusal.
pub(super) fn refusal(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

/// Whether it did because it has no such container, and not for want of something else.
pub(super) fn is_no_container(error: &Error) -> bool {
    matches!(refusal(error), Some((404, message)) if message.starts_with("No such container"))
}

/// Whether the engine answered that there is no such thing.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(refusal(error), Some((404, _)))
}
