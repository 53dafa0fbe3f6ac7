use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use dataplane::api::channels::TCP;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::cli::{ForwardArgs, Global, Local};
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope;

/// `forward`.
pub(crate) async fn run(global: &Global, args: &ForwardArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let port = args.target.port.map(|port| ("port", port.to_string()));
    let path = scope::inside(global, &args.target.meant, "forward", port)?;
    let client = Client::new(global);
    // Whoever has mistyped learns it now, not with the first connection.
    drop(client.upgrade(&path, None::<&()>, TCP).await?);
    let listener = listen(args).await?;
    let address = listener.local_addr()?;
    output.line(&format!("{address} is {} until Ctrl-C", named(args)))?;
    output.flush()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let (client, path) = (Client::new(global), path.clone());
                connections.spawn(async move { carry(&client, &path, stream).await });
            }
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    output.note(&error.to_string());
                }
            }
        }
    }
}

/// The same port as there, unless another one is asked for.
async fn listen(args: &ForwardArgs) -> Result<TcpListener, CtlError> {
    let port = args.local.map(|local| local.port).or(args.target.port).unwrap_or(0);
    let address = args.local.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |Local { address, .. }| address);
    let at = SocketAddr::new(address, port);
    TcpListener::bind(at).await.map_err(|source| CtlError::Listen { at, source })
}

fn named(args: &ForwardArgs) -> String {
    let replica = args.target.meant.replica.map(|replica| format!(".{replica}")).unwrap_or_default();
    let port = args.target.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{replica}{port}", args.target.meant.service)
}

/// One connection, from its beginning to its end.
async fn carry(client: &Client, path: &str, mut stream: TcpStream) -> Result<(), CtlError> {
    let mut there = client.upgrade(path, None::<&()>, TCP).await?;
    match copy_bidirectional(&mut stream, &mut there).await {
        Ok(_) => Ok(()),
        // Either end may hang up as it likes.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
