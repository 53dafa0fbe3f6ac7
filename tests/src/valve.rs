//! A connection that falls silent.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

/// Passes TCP connections on to a server until the server has said so much; then nothing more, with everything left open.
///
/// It is where it is made: make it in a namespace by [`crate::netns::Namespace::enter`]. Its threads stay until the
/// process ends.
#[derive(Debug)]
pub struct Valve {
    address: SocketAddr,
    left: Arc<Left>,
}

/// Bytes that may still come.
#[derive(Debug)]
struct Left {
    bytes: Mutex<usize>,
    none: Condvar,
}

impl Valve {
    /// Listens on a free port of loopback and passes `bytes` of what `server` says.
    ///
    /// # Errors
    /// No port is free.
    pub fn new(server: SocketAddr, bytes: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let left = Arc::new(Left { bytes: Mutex::new(bytes), none: Condvar::new() });
        let budget = Arc::clone(&left);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let budget = Arc::clone(&budget);
                thread::spawn(move || pass(client, server, &budget));
            }
        });
        Ok(Self { address, left })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it is closed.
    ///
    /// # Errors
    /// It is still open after `deadline`.
    pub fn closed(&self, deadline: Duration) -> Result<()> {
        let bytes = self.left.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.left.none.wait_timeout_while(bytes, deadline, |bytes| *bytes > 0);
        let (bytes, result) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!result.timed_out(), "{} bytes could still come after {deadline:?}", *bytes);
        Ok(())
    }
}

/// One connection, both ways.
fn pass(client: TcpStream, server: SocketAddr, left: &Left) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _broken = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    let (mut from_server, mut to_client) = (server, client);
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from_server.read(&mut buffer)?;
        if read == 0 {
            return to_client.shutdown(Shutdown::Write);
        }
        let passed = left.take(read);
        to_client.write_all(buffer.get(..passed).unwrap_or_default())?;
        if passed < read {
            // Silent, but not closed.
            loop {
                thread::park();
            }
        }
    }
}

impl Left {
    /// As many of `wanted` as there are.
    fn take(&self, wanted: usize) -> usize {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = wanted.min(*bytes);
        *bytes -= taken;
        if *bytes == 0 {
            self.none.notify_all();
        }
        taken
    }
}
