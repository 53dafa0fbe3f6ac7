//! A connection with several channels: pieces, each with its channel in front. Like `v5.channel.k8s.io`, and with the length of
//! the piece, as nothing else frames it: channel (one octet), length (four, network byte order), the piece.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// In the header `upgrade` of request and answer.
pub const PROTOCOL: &str = "skep-channels";
/// The same where the octets of one TCP connection follow, and nothing else.
pub const TCP: &str = "tcp";
/// Octets of the longest piece.
const PIECE_MAX: usize = 64 << 10;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// For the command to read.
    Stdin,
    /// Said by the command.
    Stdout,
    /// Said by the command on its other output.
    Stderr,
    /// How it ended, in decimal: the last piece.
    Status,
    /// How large its terminal is from now on, as JSON ([`Size`](crate::docker::Size)).
    Resize,
    /// Nothing more for the command to read.
    Close,
}

impl Channel {
    const ALL: [(Self, u8); 6] = [
        (Self::Stdin, 0),
        (Self::Stdout, 1),
        (Self::Stderr, 2),
        (Self::Status, 3),
        (Self::Resize, 4),
        (Self::Close, 255),
    ];
}

/// Writes one piece, in several if it is long.
///
/// # Errors
/// The connection's.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), channel: Channel, piece: &[u8]) -> io::Result<()> {
    let number = Channel::ALL.iter().find(|(known, _)| *known == channel).map_or(u8::MAX, |(_, number)| *number);
    let (mut rest, mut first) = (piece, true);
    while first || !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(PIECE_MAX));
        to.write_u8(number).await?;
        to.write_u32(u32::try_from(part.len()).map_err(io::Error::other)?).await?;
        to.write_all(part).await?;
        (rest, first) = (after, false);
    }
    to.flush().await
}

/// Reads one piece; [`None`] at the end of the connection.
///
/// # Errors
/// The connection's; [`io::ErrorKind::InvalidData`] for what is no piece.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Channel, Vec<u8>)>> {
    let number = match from.read_u8().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        number => number?,
    };
    let length = usize::try_from(from.read_u32().await?).map_err(io::Error::other)?;
    let channel = Channel::ALL.iter().find(|(_, known)| *known == number).map(|(channel, _)| *channel);
    let (Some(channel), true) = (channel, length <= PIECE_MAX) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("channel {number}, {length} octets")));
    };
    let mut piece = vec![0; length];
    from.read_exact(&mut piece).await?;
    Ok(Some((channel, piece)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let mut sent = Vec::new();
        let long = vec![7; PIECE_MAX + 1];
        for (channel, piece) in [(Channel::Stdout, long.as_slice()), (Channel::Close, b""), (Channel::Status, b"0")] {
            write(&mut sent, channel, piece).await.unwrap();
        }
        let mut from = sent.as_slice();
        let mut pieces = Vec::new();
        while let Some((channel, piece)) = read(&mut from).await.unwrap() {
            pieces.push((channel, piece.len()));
        }
        let expected = [(Channel::Stdout, PIECE_MAX), (Channel::Stdout, 1), (Channel::Close, 0), (Channel::Status, 1)];
        assert_eq!(pieces, expected);
    }

    #[tokio::test]
    async fn what_is_no_piece_is_an_error() {
        for octets in [&[9, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0], &[1, 0], &[1, 0, 0, 0, 2, 1]] {
            assert!(read(&mut &octets[..]).await.is_err(), "{octets:?}");
        }
    }
}
