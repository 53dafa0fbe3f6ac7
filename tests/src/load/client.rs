use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::PATIENCE;

/// One who asks. Dropped and made anew after a failure.
pub trait Client {
    /// One exchange; how many units it moved.
    ///
    /// # Errors
    /// Whatever its user would have seen.
    fn exchange(&mut self) -> io::Result<u64>;
}

/// Between two exchanges of one [`Paced`] client.
pub const PAUSE: Duration = Duration::from_millis(5);

/// A client that lets others work, too.
pub struct Paced<C>(pub C);

impl<C: Client> Client for Paced<C> {
    fn exchange(&mut self) -> io::Result<u64> {
        thread::sleep(PAUSE);
        self.0.exchange()
    }
}

fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Requests of one octet over one connection (netperf's TCP_RR).
pub struct KeepAlive(TcpStream);

impl KeepAlive {
    /// Connects.
    ///
    /// # Errors
    /// The connect's.
    pub fn new(to: SocketAddr) -> io::Result<Self> {
        connect(to, PATIENCE).map(Self)
    }
}

impl Client for KeepAlive {
    fn exchange(&mut self) -> io::Result<u64> {
        let mut answer = [0];
        self.0.write_all(b"x")?;
        self.0.read_exact(&mut answer)?;
        Ok(1)
    }
}

/// A connection for each request of one octet (netperf's TCP_CRR). The server closes first, so that
/// no port of the client's waits in TIME_WAIT.
pub struct Connects {
    to: SocketAddr,
    patience: Duration,
}

impl Connects {
    /// To `to`.
    ///
    /// # Errors
    /// None; fallible like the others.
    pub fn new(to: SocketAddr) -> io::Result<Self> {
        Self::within(to, PATIENCE)
    }

    /// The same, giving up after `patience`.
    ///
    /// # Errors
    /// None; fallible like the others.
    pub fn within(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        Ok(Self { to, patience })
    }
}

impl Client for Connects {
    fn exchange(&mut self) -> io::Result<u64> {
        let mut stream = connect(self.to, self.patience)?;
        let mut answer = Vec::with_capacity(1);
        stream.write_all(b"x")?;
        match stream.read_to_end(&mut answer)? {
            1 => Ok(1),
            n => Err(io::Error::other(format!("{n} octets instead of 1"))),
        }
    }
}

/// Octets one way, as fast as they go (netperf's TCP_STREAM).
pub struct Stream {
    stream: TcpStream,
    block: Vec<u8>,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// The connect's.
    pub fn new(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: connect(to, PATIENCE)?, block: vec![0; 128 << 10] })
    }
}

impl Client for Stream {
    fn exchange(&mut self) -> io::Result<u64> {
        self.stream.write_all(&self.block)?;
        Ok(self.block.len() as u64)
    }
}

fn datagram_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Datagrams of four octets, each answered (netperf's UDP_RR).
pub struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    connected: bool,
    sequence: u32,
}

impl Datagrams {
    /// From a connected socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn connected(to: SocketAddr) -> io::Result<Self> {
        let socket = datagram_socket(to)?;
        socket.connect(to)?;
        Ok(Self { socket, to, connected: true, sequence: 0 })
    }

    /// From an unconnected socket; the answer must come from where the question went.
    ///
    /// # Errors
    /// The socket's.
    pub fn unconnected(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: datagram_socket(to)?, to, connected: false, sequence: 0 })
    }
}

impl Client for Datagrams {
    fn exchange(&mut self) -> io::Result<u64> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = self.sequence.to_be_bytes();
        let mut answer = [0; 4];
        if self.connected {
            self.socket.send(&question)?;
            self.socket.recv(&mut answer)?;
        } else {
            self.socket.send_to(&question, self.to)?;
            let (_, from) = self.socket.recv_from(&mut answer)?;
            if from != self.to {
                return Err(io::Error::other(format!("asked {}, answered by {from}", self.to)));
            }
        }
        if answer == question { Ok(1) } else { Err(io::Error::other("an answer to another question")) }
    }
}

/// Questions for one A record, up to a number of them in flight. An exchange is one answer; its units are the
/// nanoseconds from question to answer.
pub struct Dns {
    socket: UdpSocket,
    question: Vec<u8>,
    /// When the question with this id, modulo the length, was sent; none: answered.
    asked: Vec<Option<Instant>>,
    in_flight: usize,
    expect: Option<Ipv4Addr>,
    next_id: u16,
}

impl Dns {
    /// Asks `server` for `name`'s A, up to `outstanding` questions in flight; every answer must be positive, and
    /// hold `expect` where that is given.
    ///
    /// # Errors
    /// The socket's.
    pub fn new(server: SocketAddr, name: &str, outstanding: u16, expect: Option<Ipv4Addr>) -> io::Result<Self> {
        let socket = datagram_socket(server)?;
        socket.connect(server)?;
        // RFC 1035 section 4.1: id (filled in later), RD, one question of type A, class IN.
        let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.trim_end_matches('.').split('.') {
            question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(&[0, 0, 1, 0, 1]);
        Ok(Self { socket, question, asked: vec![None; outstanding.into()], in_flight: 0, expect, next_id: 0 })
    }

    fn ask(&mut self) -> io::Result<()> {
        let slot = usize::from(self.next_id) % self.asked.len();
        self.question[..2].copy_from_slice(&self.next_id.to_be_bytes());
        self.asked[slot] = Some(Instant::now());
        self.in_flight += 1;
        self.next_id = (self.next_id + 1) % (u16::MAX / 2);
        self.socket.send(&self.question).map(|_| ())
    }

    /// Takes an answer, if there is one already or `wait` says to wait for it.
    fn answer(&mut self, wait: bool) -> io::Result<Option<u64>> {
        let mut answer = [0; 1500];
        let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let length = match recv(self.socket.as_raw_fd(), &mut answer, flags) {
            Ok(length) => length,
            Err(Errno::EAGAIN) if !wait => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let id = self.check(&answer[..length])?;
        let slot = usize::from(id) % self.asked.len();
        let asked = self.asked[slot].take().ok_or_else(|| io::Error::other("an answer to no question"))?;
        self.in_flight -= 1;
        Ok(Some(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX)))
    }

    fn check(&self, answer: &[u8]) -> io::Result<u16> {
        let wrong = |what: String| Err(io::Error::other(what));
        let Some(header) = answer.first_chunk::<12>() else {
            return wrong(format!("an answer of {} octets", answer.len()));
        };
        if header[3] & 0xf != 0 || header[7] == 0 {
            return wrong(format!("rcode {}, {} answers", header[3] & 0xf, header[7]));
        }
        match self.expect {
            Some(address) if !answer.windows(4).any(|octets| octets == address.octets()) => {
                wrong(format!("the answer does not hold {address}"))
            }
            _ => Ok(u16::from_be_bytes([header[0], header[1]])),
        }
    }
}

impl Client for Dns {
    fn exchange(&mut self) -> io::Result<u64> {
        loop {
            // Answers come in any order: one that is late keeps its place, and then the question after it waits.
            let free = self.asked[usize::from(self.next_id) % self.asked.len()].is_none();
            if free {
                self.ask()?;
            }
            if let Some(nanoseconds) = self.answer(!free || self.in_flight == self.asked.len())? {
                return Ok(nanoseconds);
            }
        }
    }
}
