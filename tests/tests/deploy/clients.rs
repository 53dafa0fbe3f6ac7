//! Clients of `web`, each as strict as its kind may be.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::load::{Client, PATIENCE, PAUSE, Place};

/// Which versions answered new connections.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// None below this one may answer.
    floor: AtomicU32,
    /// When each was seen first.
    first: Mutex<BTreeMap<u32, Instant>>,
}

impl Versions {
    /// From now on only this one and later ones may answer.
    pub(crate) fn at_least(&self, version: u32) {
        self.floor.fetch_max(version, Ordering::SeqCst);
    }

    /// When this version answered first.
    pub(crate) fn first(&self, version: u32) -> Option<Instant> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get(&version).copied()
    }

    fn saw(&self, version: u32) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_insert_with(Instant::now);
    }
}

/// An answer of `web`.
struct Answer {
    version: u32,
    /// The server ends the connection after it.
    last: bool,
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What comes up to the end of a head.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut octet = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet)?;
        head.push(octet[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("an answer that is none: {what:?}"))
}

fn ask(stream: &mut TcpStream, path: &str, more: &str) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\n{more}\r\n")?;
    let head = head(stream)?;
    let length = field(&head, "Content-Length").and_then(|length| length.parse().ok()).ok_or_else(|| wrong(&head))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let version = body.parse().ok().filter(|_| head.starts_with("HTTP/1.1 200 ")).ok_or_else(|| wrong(&head))?;
    Ok(Answer { version, last: field(&head, "Connection") == Some("close") })
}

/// A connection for each request. Once one reached a version, no later one may reach an older: a switch is one write
/// for each family.
pub(crate) struct Fresh {
    pub(crate) to: SocketAddr,
    pub(crate) versions: Arc<Versions>,
    /// Whether the versions serve side by side for a while.
    pub(crate) mixed: bool,
}

impl Client for Fresh {
    fn exchange(&mut self) -> io::Result<u64> {
        std::thread::sleep(PAUSE);
        let floor = self.versions.floor.load(Ordering::SeqCst);
        let Answer { version, .. } = ask(&mut connect(self.to)?, "/", "Connection: close\r\n")?;
        if version < floor {
            return Err(io::Error::other(format!("version {version} answered a new connection after {floor}")));
        }
        self.versions.saw(version);
        if !self.mixed {
            self.versions.at_least(version);
        }
        Ok(1)
    }
}

/// One connection for all requests, HTTP/1.1's way. One that the server has ended between two requests, or said to
/// end, is begun anew; anything else is a failure.
pub(crate) struct Kept {
    to: SocketAddr,
    stream: Option<TcpStream>,
}

impl Kept {
    pub(crate) fn new(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { to, stream: None })
    }
}

impl Client for Kept {
    fn exchange(&mut self) -> io::Result<u64> {
        std::thread::sleep(PAUSE);
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => connect(self.to)?,
        };
        let answer = ask(&mut stream, "/slow", "")?;
        self.stream = Some(stream).filter(|_| !answer.last);
        Ok(1)
    }
}

/// Whether the server has not ended it.
fn is_open(stream: &TcpStream) -> bool {
    let peek = || {
        stream.set_nonblocking(true)?;
        let there = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        there
    };
    peek().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// One connection for all requests. A request whose connection breaks is asked once more over another; how often that
/// was is told.
pub(crate) struct Stubborn {
    to: SocketAddr,
    stream: Option<TcpStream>,
    broken: Arc<AtomicU64>,
}

impl Stubborn {
    pub(crate) fn new(to: SocketAddr, broken: &Arc<AtomicU64>) -> io::Result<Self> {
        Ok(Self { to, stream: None, broken: Arc::clone(broken) })
    }
}

impl Client for Stubborn {
    fn exchange(&mut self) -> io::Result<u64> {
        std::thread::sleep(PAUSE);
        if let Some(mut stream) = self.stream.take() {
            match ask(&mut stream, "/slow", "") {
                Ok(_) => {
                    self.stream = Some(stream);
                    return Ok(1);
                }
                // Silence is a failure.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(_) => drop(self.broken.fetch_add(1, Ordering::SeqCst)),
            }
        }
        let mut stream = connect(self.to)?;
        ask(&mut stream, "/slow", "")?;
        self.stream = Some(stream);
        Ok(1)
    }
}

/// A connection that is upgraded, as a WebSocket is, and used until the server ends it.
pub(crate) struct Held(JoinHandle<io::Result<Instant>>);

impl Held {
    /// Opens it; `version` must answer.
    pub(crate) fn open(place: &Place, to: SocketAddr, version: u32) -> Result<Self> {
        let place = place.clone();
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let upgraded = place.enter().and_then(|()| upgrade(to, version));
            let (said, stream) = match upgraded {
                Ok(stream) => (Ok(()), Some(stream)),
                Err(error) => (Err(error), None),
            };
            // Whoever asked waits for it.
            let _heard = ready.send(said);
            stream.map_or_else(|| Err(io::Error::other("it was never open")), converse)
        });
        opened.recv().context("a held connection")??;
        Ok(Self(thread))
    }

    /// When the server ended it; it must have.
    pub(crate) fn ended(self) -> Result<Instant> {
        self.0.join().map_err(|_| anyhow::anyhow!("a held connection's thread panicked"))?.context("a held connection")
    }
}

fn upgrade(to: SocketAddr, version: u32) -> io::Result<TcpStream> {
    let mut stream = connect(to)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")?;
    let head = head(&mut stream)?;
    let is_it = head.starts_with("HTTP/1.1 101 ") && field(&head, "Version") == Some(version.to_string().as_str());
    if is_it { Ok(stream) } else { Err(wrong(&head)) }
}

/// Says something now and then and has it given back, until the server ends the connection.
fn converse(mut stream: TcpStream) -> io::Result<Instant> {
    let mut given = [0; 5];
    loop {
        let sent = stream.write_all(b"hello");
        match sent.and_then(|()| stream.read_exact(&mut given)) {
            Ok(()) if &given == b"hello" => std::thread::sleep(Duration::from_millis(20)),
            Ok(()) => return Err(wrong(&String::from_utf8_lossy(&given))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            Err(_) => return Ok(Instant::now()),
        }
    }
}

/// Which version answers a new connection.
pub(crate) fn version(place: &Place, to: SocketAddr) -> Result<u32> {
    let place = place.clone();
    let asked = std::thread::spawn(move || {
        place.enter()?;
        Ok::<_, io::Error>(ask(&mut connect(to)?, "/", "Connection: close\r\n")?.version)
    });
    Ok(asked.join().map_err(|_| anyhow::anyhow!("a panic"))??)
}
