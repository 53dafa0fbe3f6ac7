use std::io;
use std::path::{Path, PathBuf};

use dataplane::api::types::ErrorBody;
use dataplane::config::SOCKET_NAME;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::cli::Global;
use crate::error::CtlError;
use crate::pins;

/// HTTP/JSON over skepd's Unix socket; a connection for each request.
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(global: &Global) -> Self {
        let socket = global.socket.clone().unwrap_or_else(|| pins::run_dir(global).join(SOCKET_NAME));
        Self { socket }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CtlError> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CtlError> {
        self.exchange(Method::PUT, path, json(path, body)?).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CtlError> {
        self.exchange(Method::POST, path, json(path, body)?).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CtlError> {
        self.exchange(Method::DELETE, path, Bytes::new()).await
    }

    /// An answer that is taken as it comes.
    pub(crate) async fn octets(&self, path: &str) -> Result<Octets, CtlError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        let response = self.check(path, response).await?;
        Ok(Octets { socket: self.socket.clone(), body: response.into_body() })
    }

    /// A request whose connection becomes one to somewhere else, by that protocol.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
        protocol: &str,
    ) -> Result<TokioIo<Upgraded>, CtlError> {
        let body = body.map(|body| json(path, body)).transpose()?.unwrap_or_default();
        let response = self.request(Method::POST, path, body, Some(protocol)).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.check(path, response).await?;
            return Err(CtlError::Cut);
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(|source| self.http(source))?))
    }

    /// Where skepd is asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// An answer that comes line by line.
    pub(crate) async fn stream(&self, path: &str) -> Result<Lines, CtlError> {
        Ok(Lines { octets: self.octets(path).await?, path: path.to_owned(), rest: Vec::new() })
    }

    async fn exchange<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, CtlError> {
        let response = self.send(method, path, body).await?;
        let response = self.check(path, response).await?;
        let bytes = self.collect(response).await?;
        serde_json::from_slice(&bytes).map_err(|source| CtlError::Body { what: path.to_owned(), source })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, CtlError> {
        self.request(method, path, body, None).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        upgrade: Option<&str>,
    ) -> Result<Response<Incoming>, CtlError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.http(source))?;
        // It ends with the answer's last byte; what goes wrong with it, the answer tells.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "skepd")
            .header("content-type", "application/json");
        if let Some(protocol) = upgrade {
            request = request.header("connection", "upgrade").header("upgrade", protocol);
        }
        let request = request.body(Full::new(body)).map_err(|error| CtlError::Connection {
            socket: self.socket.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        sender.send_request(request).await.map_err(|source| self.http(source))
    }

    /// What is not a success tells why.
    async fn check(&self, path: &str, response: Response<Incoming>) -> Result<Response<Incoming>, CtlError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.collect(response).await?;
        Err(match serde_json::from_slice(&bytes) {
            Ok(ErrorBody { error, remedy }) => CtlError::Api { error, remedy },
            Err(_) if status == StatusCode::NOT_FOUND => CtlError::Api {
                error: format!("skepd does not know {path}"),
                remedy: "use skepctl and skepd of one version".to_owned(),
            },
            Err(_) => CtlError::Api {
                error: format!("skepd answered {status}: {}", String::from_utf8_lossy(&bytes).trim()),
                remedy: "see its log".to_owned(),
            },
        })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, CtlError> {
        Ok(response.into_body().collect().await.map_err(|source| self.http(source))?.to_bytes())
    }

    fn http(&self, source: hyper::Error) -> CtlError {
        CtlError::Http { socket: self.socket.clone(), source }
    }

    fn unreachable(&self, source: io::Error) -> CtlError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CtlError::NoDaemon { socket },
            io::ErrorKind::PermissionDenied => CtlError::Denied { socket },
            _ => CtlError::Connection { socket, source },
        }
    }
}

/// A streamed answer.
pub(crate) struct Octets {
    socket: PathBuf,
    body: Incoming,
}

impl Octets {
    /// What comes next; [`None`] at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CtlError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| CtlError::Http { socket: self.socket.clone(), source })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The lines of a streamed answer, a JSON value each.
pub(crate) struct Lines {
    octets: Octets,
    path: String,
    rest: Vec<u8>,
}

impl Lines {
    /// The next one; `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CtlError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let parsed = serde_json::from_slice(&line);
                return parsed.map(Some).map_err(|source| CtlError::Body { what: self.path.clone(), source });
            }
            match self.octets.next().await? {
                None => return Ok(None),
                Some(octets) => self.rest.extend(octets),
            }
        }
    }
}

fn json(path: &str, body: &impl Serialize) -> Result<Bytes, CtlError> {
    let body = serde_json::to_vec(body).map_err(|source| CtlError::Body { what: path.to_owned(), source })?;
    Ok(body.into())
}

/// A segment of a path or a value of a query: everything but RFC 3986's unreserved characters as %XX.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
