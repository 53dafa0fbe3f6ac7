//! A server in a network namespace that says what it is told to say.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use nix::sys::socket::{Shutdown, shutdown};
use tests::netns::Namespace;

/// Answers one question a connection; ends with its value, and then listens no more.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<String>>,
    cut_off: AtomicBool,
}

/// An answer with nothing but a status.
pub(crate) fn answer(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} As told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

impl Server {
    /// `answer` gets the number of the connection, from 0, and the question.
    pub(crate) fn start(place: &Namespace, answer: impl Fn(usize, &str) -> Vec<u8> + Send + 'static) -> Result<Self> {
        Self::start_at(place, "0.0.0.0:8080", answer)
    }

    pub(crate) fn start_at(
        place: &Namespace,
        address: &str,
        answer: impl Fn(usize, &str) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let listener = Arc::new(place.enter(|| Ok(TcpListener::bind(address)?))?);
        let seen = Arc::<Seen>::default();
        let (own, told) = (Arc::clone(&listener), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let streams = std::iter::from_fn(|| own.accept().ok());
            for (n, (stream, _)) in streams.enumerate() {
                serve(stream, n, &answer, &told);
            }
        });
        Ok(Self { listener, seen, thread: Some(thread) })
    }

    /// Accepts what comes and says nothing.
    pub(crate) fn silent(place: &Namespace) -> Result<Self> {
        let listener = Arc::new(place.enter(|| Ok(TcpListener::bind("0.0.0.0:8080")?))?);
        let own = Arc::clone(&listener);
        let thread = std::thread::spawn(move || drop(std::iter::from_fn(|| own.accept().ok()).collect::<Vec<_>>()));
        Ok(Self { listener, seen: Arc::default(), thread: Some(thread) })
    }

    /// The questions so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many questions there were, when those that were on their way have come.
    pub(crate) async fn settled(&self) -> usize {
        loop {
            let before = self.heads().len();
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.heads().len() == before {
                return before;
            }
        }
    }

    /// Whether somebody hung up while it spoke.
    pub(crate) fn cut_off(&self) -> bool {
        self.seen.cut_off.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends `accept`, and the listening with it.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, n: usize, answer: &impl Fn(usize, &str) -> Vec<u8>, seen: &Seen) {
    let mut head = Vec::new();
    let mut octets = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut octets) {
            // A question about the port alone.
            Ok(0) | Err(_) => return,
            Ok(length) => head.extend_from_slice(&octets[..length]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let answer = answer(n, &head);
    seen.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    if stream.write_all(&answer).is_err() {
        seen.cut_off.store(true, Ordering::SeqCst);
    }
}
