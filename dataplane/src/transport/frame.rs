//! Messages over a stream: each has its length in front (`u16`, network byte order), as the Noise Protocol Framework has it
//! (revision 34, section 13).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Octets of the longest message.
pub(crate) const MAX: usize = 65_535;

/// Writes one.
///
/// # Errors
/// The stream's; [`io::ErrorKind::InvalidInput`] for one that is longer than [`MAX`].
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // In one piece: the length alone would be a packet.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    stream.flush().await
}

/// Reads one.
///
/// # Errors
/// The stream's; [`io::ErrorKind::UnexpectedEof`] where it ends.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
