//! A stream of octets inside messages of Noise. An empty message is its end; a connection that ends without one was cut.

use std::sync::Arc;

use snow::{HandshakeState, StatelessTransportState};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};

use super::{TransportError, frame};

/// Octets that the cipher adds to a message.
const TAG: usize = 16;
/// Octets of the longest piece of the stream.
const PIECE: usize = frame::MAX - TAG;

/// The next message of a handshake. Those have no payload: the first one could be sent again by somebody else.
pub(super) fn write(handshake: &mut HandshakeState) -> Result<Vec<u8>, TransportError> {
    let mut message = vec![0; frame::MAX];
    let length = handshake.write_message(&[], &mut message)?;
    message.truncate(length);
    Ok(message)
}

/// Takes a message of a handshake.
pub(super) fn read(handshake: &mut HandshakeState, message: &[u8]) -> Result<(), TransportError> {
    handshake.read_message(message, &mut vec![0; message.len()])?;
    Ok(())
}

/// What goes over the stream from now on, in the clear. Whoever drops it ends the connection.
pub(super) fn open<S>(stream: S, handshake: HandshakeState) -> Result<DuplexStream, TransportError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let cipher = Arc::new(handshake.into_stateless_transport_mode()?);
    let (near, far) = duplex(frame::MAX);
    let (from_wire, to_wire) = split(stream);
    let (from_near, to_near) = split(far);
    let sealing = tokio::spawn(seal(Arc::clone(&cipher), from_near, to_wire));
    tokio::spawn(async move {
        if unseal(cipher, from_wire, to_near).await.is_err() {
            // Cut, or not theirs: nobody may wait for more, or go on sending.
            sealing.abort();
        }
    });
    Ok(near)
}

async fn seal<S: AsyncWrite>(
    cipher: Arc<StatelessTransportState>,
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<S>,
) -> Result<(), TransportError> {
    let (mut piece, mut message) = (vec![0; PIECE], vec![0; frame::MAX]);
    for nonce in 0.. {
        let octets = from.read(&mut piece).await?;
        let length = cipher.write_message(nonce, &piece[..octets], &mut message)?;
        frame::send(&mut to, &message[..length]).await?;
        if octets == 0 {
            break;
        }
    }
    Ok(to.shutdown().await?)
}

async fn unseal<S: AsyncRead>(
    cipher: Arc<StatelessTransportState>,
    mut from: ReadHalf<S>,
    mut to: WriteHalf<DuplexStream>,
) -> Result<(), TransportError> {
    let mut piece = vec![0; frame::MAX];
    for nonce in 0.. {
        let message = frame::receive(&mut from).await?;
        let octets = cipher.read_message(nonce, &message, &mut piece)?;
        if octets == 0 {
            break;
        }
        if to.write_all(&piece[..octets]).await.is_err() {
            // Nobody reads any more; what they have written still goes.
            return Ok(());
        }
    }
    // Its other half is told, if it is there.
    drop(to.shutdown().await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use snow::Builder;
    use tokio::time::{Duration, timeout};

    use super::*;

    /// More than any buffer on the way holds.
    const MUCH: usize = 1_000_000;

    fn handshakes() -> [HandshakeState; 2] {
        let pattern = || Builder::new(super::super::PATTERN.parse().unwrap());
        let keys = [pattern().generate_keypair().unwrap(), pattern().generate_keypair().unwrap()];
        let asks = pattern().local_private_key(&keys[0].private).unwrap();
        let asks = asks.remote_public_key(&keys[1].public).unwrap();
        let mut asks = asks.build_initiator().unwrap();
        let mut hears = pattern().local_private_key(&keys[1].private).unwrap().build_responder().unwrap();
        read(&mut hears, &write(&mut asks).unwrap()).unwrap();
        read(&mut asks, &write(&mut hears).unwrap()).unwrap();
        [asks, hears]
    }

    #[tokio::test]
    async fn what_is_written_is_read_both_ways_at_once_and_ends() {
        let [near, far] = handshakes();
        let (one, other) = duplex(1_000);
        let ends = [open(one, near).unwrap(), open(other, far).unwrap()];
        let talks = ends.map(|end| async {
            let (mut from, mut to) = split(end);
            let said: Vec<u8> = (0..MUCH).map(|number| (number % 251) as u8).collect();
            let mut heard = Vec::new();
            let writing = async {
                to.write_all(&said).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let (_, read) = tokio::join!(writing, from.read_to_end(&mut heard));
            read.unwrap();
            assert!(heard == said, "{} octets", heard.len());
        });
        futures_util::future::join_all(talks).await;
    }

    #[tokio::test]
    async fn what_somebody_changes_or_repeats_on_the_way_ends_it() {
        type Change = fn(&mut Vec<u8>) -> usize;
        // One bit; the same message again.
        let changes: [(Change, &[u8]); 2] = [
            (
                |message| {
                    message[0] ^= 1;
                    1
                },
                b"",
            ),
            (|_| 2, b"said"),
        ];
        for (change, expected) in changes {
            let [near, far] = handshakes();
            let ((mut tap, one), (mut wire, other)) = (duplex(1_000), duplex(1_000));
            let (mut says, mut hears) = (open(one, near).unwrap(), open(other, far).unwrap());
            says.write_all(b"said").await.unwrap();
            let mut message = frame::receive(&mut tap).await.unwrap();
            for _ in 0..change(&mut message) {
                frame::send(&mut wire, &message).await.unwrap();
            }
            let mut heard = Vec::new();
            let ends = timeout(Duration::from_secs(10), hears.read_to_end(&mut heard)).await;
            ends.expect("it ends by itself").unwrap();
            assert_eq!(heard, expected);
        }
    }
}
