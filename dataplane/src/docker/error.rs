/// What the engine refused, and for which object.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Neither `unix://` nor `tcp://`.
    #[error("{0:?} is no address of a Docker Engine: give --docker unix:///var/run/docker.sock")]
    Address(String),
    /// Nobody answers.
    #[error("Docker does not answer at {address}: start it (systemctl start docker), or name another with --docker")]
    Unavailable {
        /// As given.
        address: String,
        /// Why.
        #[source]
        source: bollard::errors::Error,
    },
    /// No such image, and none could be had.
    #[error(
        "the image {image} cannot be had: check its name, or load it with `docker load` or `docker pull`: {reason}"
    )]
    Image {
        /// Reference as written.
        image: String,
        /// The engine's or the registry's answer.
        reason: String,
    },
    /// No such container.
    #[error("there is no container {0}: it was removed by somebody else; the next resync makes it again")]
    NoContainer(String),
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
    /// Any other refusal.
    #[error("Docker cannot {operation} {object}")]
    Request {
        /// A verb, such as `create container`.
        operation: &'static str,
        /// Container, image or volume.
        object: String,
        /// The engine's answer.
        #[source]
        source: bollard::errors::Error,
    },
}
