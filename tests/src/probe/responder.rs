use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PORT;
use crate::load::Place;

/// A client that connects and asks nothing is let go after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that says who it is, over TCP and UDP, on every address of its namespace, until it is dropped.
pub struct Responder {
    /// Closing it ends the thread.
    life_line: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Listens at `place`; ready when this returns.
    ///
    /// # Errors
    /// What binding said.
    pub fn start(place: Place, name: String) -> io::Result<Self> {
        let (life_line, end) = UnixStream::pair()?;
        let (ready, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let sockets = place.enter().and_then(|()| {
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
                Ok((listener, UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?))
            });
            let (report, sockets) = match sockets {
                Ok(sockets) => (Ok(()), Some(sockets)),
                Err(error) => (Err(error), None),
            };
            if let (Ok(()), Some((listener, socket))) = (ready.send(report), sockets) {
                answer(&listener, &socket, &end.into(), name.as_bytes());
            }
        });
        bound.recv().map_err(io::Error::other)??;
        Ok(Self { life_line: Some(life_line), thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.life_line.take());
        if let Some(thread) = self.thread.take() {
            // A responder that panicked has nothing left to clean up.
            thread.join().ok();
        }
    }
}

fn answer(listener: &TcpListener, socket: &UdpSocket, end: &OwnedFd, name: &[u8]) {
    let mut buffer = [0; 2048];
    loop {
        let mut polled = [listener.as_fd(), socket.as_fd(), end.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            return;
        }
        let [connection, datagram, ended] = polled.map(|polled| polled.any().unwrap_or(true));
        if ended {
            return;
        }
        // A client that is gone is no reason to stop.
        if connection && let Ok((stream, _)) = listener.accept() {
            converse(stream, name).ok();
        }
        if datagram && let Ok((_, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(name, from).ok();
        }
    }
}

fn converse(mut stream: TcpStream, name: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    if stream.read(&mut [0; 64])? > 0 {
        stream.write_all(name)?;
    }
    Ok(())
}
