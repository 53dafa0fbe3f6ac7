//! How a node that wants to join and one that invited it talk: one question and its answer, over TCP.
//!
//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256` of the Noise Protocol Framework (revision 34): both prove that they know the
//! token's secret, and an answer that was recorded stays closed even if the token becomes known later. Before the first
//! message comes the token's id in the clear, which says whose secret is meant; it is authenticated with the rest. Each
//! message has its length in front (`u16`, big-endian).

use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::{Builder, HandshakeState};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::ClusterError;
use super::token::{ID, SECRET};
use crate::transport::frame::{receive, send};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// What is said before, and by which version.
const PROLOGUE: &[u8] = b"skep join 1";
/// Octets of a message beside its payload: the ephemeral key and the tag. A message has at most 65,535 (Noise, section 3).
const OVERHEAD: usize = 48;

/// The side that was asked, when it has heard the question.
pub(super) struct Heard {
    handshake: HandshakeState,
}

/// Asks, and gives the answer.
///
/// # Errors
/// [`ClusterError::Talk`] when the other side does not know the secret, or hangs up.
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    id: &[u8; ID],
    secret: &[u8; SECRET],
    question: &Q,
) -> Result<A, ClusterError> {
    let mut handshake = builder(secret, &prologue(id))?.build_initiator()?;
    let message = write(&mut handshake, question)?;
    stream.write_all(id).await?;
    send(stream, &message).await?;
    let answer = receive(stream).await?;
    read(&mut handshake, &answer)
}

/// Reads which token is meant.
///
/// # Errors
/// [`ClusterError::Talk`].
pub(super) async fn id(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; ID], ClusterError> {
    let mut id = [0; ID];
    stream.read_exact(&mut id).await?;
    Ok(id)
}

/// Hears the question of somebody who knows the secret.
///
/// # Errors
/// [`ClusterError::Talk`] for anybody else.
pub(super) async fn hear<Q: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    id: &[u8; ID],
    secret: &[u8; SECRET],
) -> Result<(Q, Heard), ClusterError> {
    let mut handshake = builder(secret, &prologue(id))?.build_responder()?;
    let message = receive(stream).await?;
    let question = read(&mut handshake, &message)?;
    Ok((question, Heard { handshake }))
}

impl Heard {
    /// Answers.
    ///
    /// # Errors
    /// [`ClusterError::Talk`].
    pub(super) async fn answer<A: Serialize>(
        mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        answer: &A,
    ) -> Result<(), ClusterError> {
        let message = write(&mut self.handshake, answer)?;
        Ok(send(stream, &message).await?)
    }
}

fn prologue(id: &[u8; ID]) -> Vec<u8> {
    [PROLOGUE, id].concat()
}

fn builder<'a>(secret: &'a [u8; SECRET], prologue: &'a [u8]) -> Result<Builder<'a>, ClusterError> {
    Ok(Builder::new(PATTERN.parse()?).prologue(prologue)?.psk(0, secret)?)
}

fn write(handshake: &mut HandshakeState, payload: &impl Serialize) -> Result<Vec<u8>, ClusterError> {
    let payload = serde_json::to_vec(payload).map_err(std::io::Error::other)?;
    let mut message = vec![0; payload.len() + OVERHEAD];
    let length = handshake.write_message(&payload, &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn read<T: DeserializeOwned>(handshake: &mut HandshakeState, message: &[u8]) -> Result<T, ClusterError> {
    let mut payload = vec![0; message.len()];
    let length = handshake.read_message(message, &mut payload)?;
    Ok(serde_json::from_slice(payload.get(..length).unwrap_or_default()).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const TOKEN: [u8; ID] = [7; ID];

    async fn talk(
        asker: [u8; SECRET],
        asked: [u8; SECRET],
    ) -> (Result<String, ClusterError>, Result<(), ClusterError>) {
        let (mut near, mut far) = duplex(4096);
        let asking = async move { ask::<_, String>(&mut near, &TOKEN, &asker, &"who?").await };
        let answering = async move {
            assert_eq!(id(&mut far).await?, TOKEN);
            let (question, heard): (String, Heard) = hear(&mut far, &TOKEN, &asked).await?;
            heard.answer(&mut far, &format!("{question} me")).await
        };
        tokio::join!(asking, answering)
    }

    #[tokio::test]
    async fn who_knows_the_secret_is_answered() {
        let (answer, answered) = talk([1; SECRET], [1; SECRET]).await;
        answered.unwrap();
        assert_eq!(answer.unwrap(), "who? me");
    }

    #[tokio::test]
    async fn who_does_not_know_it_hears_nothing() {
        let (answer, answered) = talk([1; SECRET], [2; SECRET]).await;
        assert!(answer.is_err() && answered.is_err());
    }

    #[tokio::test]
    async fn whatever_is_said_instead_is_an_error() {
        for said in [&[][..], &[0, 0], &[0, 1, 9], &[255, 255, 1], &[0; 50]] {
            let mut said = said;
            assert!(hear::<String>(&mut said, &TOKEN, &[1; SECRET]).await.is_err());
        }
    }
}
