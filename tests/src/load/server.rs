use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::socket::{MsgFlags, SockaddrIn6, recvfrom, sendto, shutdown};

use super::{PATIENCE, Place};

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Gives back what comes over a connection, a thread for each.
    Echo,
    /// The same in one thread, one connection after the other: nothing but the network is measured.
    EchoSerial,
    /// Gives back the first octets of a connection and closes it.
    EchoOnce,
    /// Reads and forgets, one connection after the other.
    Sink,
    /// Gives back each datagram.
    Datagrams,
}

/// A server in a thread of its own, on IPv4 and IPv6, until it is dropped.
pub struct Server {
    socket: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `port` at `place`; ready when this returns.
    ///
    /// # Errors
    /// What binding said.
    pub fn start(place: Place, port: u16, service: Service) -> io::Result<Self> {
        let (ready, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let any = (Ipv6Addr::UNSPECIFIED, port);
            if service == Service::Datagrams {
                let socket = place.enter().and_then(|()| UdpSocket::bind(any));
                if let Some(socket) = announce(&ready, socket) {
                    datagrams(&socket);
                }
            } else {
                let listener = place.enter().and_then(|()| TcpListener::bind(any));
                if let Some(listener) = announce(&ready, listener) {
                    connections(&listener, service);
                }
            }
        });
        let socket = bound.recv().map_err(io::Error::other)??;
        Ok(Self { socket, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only to wake the thread's accept or recv; a datagram socket says ENOTCONN and wakes all the same.
        shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            // A server that panicked has nothing left to clean up.
            thread.join().ok();
        }
    }
}

fn announce<S: AsFd>(ready: &mpsc::Sender<io::Result<OwnedFd>>, socket: io::Result<S>) -> Option<S> {
    let (report, socket) = match socket {
        Ok(socket) => (socket.as_fd().try_clone_to_owned(), Some(socket)),
        Err(error) => (Err(error), None),
    };
    ready.send(report).ok()?;
    socket
}

fn connections(listener: &TcpListener, service: Service) {
    while let Ok((stream, _)) = listener.accept() {
        match service {
            Service::Echo => {
                std::thread::spawn(move || converse(stream, service));
            }
            _ => converse(stream, service),
        }
    }
}

fn converse(mut stream: TcpStream, service: Service) {
    let mut buffer = vec![0; 128 << 10];
    stream.set_nodelay(true).ok();
    if service == Service::EchoOnce {
        // A client whose cable was pulled never says so, and others are waiting.
        stream.set_read_timeout(Some(PATIENCE)).ok();
    }
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if service != Service::Sink && stream.write_all(&buffer[..length]).is_err() {
            return;
        }
        if service == Service::EchoOnce {
            // An orderly close even if the client sends more.
            stream.shutdown(Shutdown::Write).ok();
            return;
        }
    }
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 65_535];
    // A shut-down socket gives empty datagrams from nowhere, which the standard library would panic at.
    while let Ok((length @ 1.., Some(from))) = recvfrom::<SockaddrIn6>(socket.as_raw_fd(), &mut buffer) {
        // A client that is gone (ECONNREFUSED) is no reason to stop.
        sendto(socket.as_raw_fd(), &buffer[..length], &from, MsgFlags::empty()).ok();
    }
}
