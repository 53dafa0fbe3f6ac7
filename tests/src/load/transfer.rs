use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::netns::Namespace;

/// Nothing is heard of a connection that hangs; packets that were lost on the way are sent again within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many octets from one namespace to an address of the other, on one connection, and all of them back.
///
/// # Errors
/// When they do not get there, or are others there.
pub fn there_and_back(from: &Namespace, to: &Namespace, address: IpAddr, octets: usize) -> Result<()> {
    let listener = to.enter(|| Ok(TcpListener::bind((address, 0))?))?;
    let address = listener.local_addr()?;
    let mut client = from.enter(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?))?;
    let (mut server, _) = listener.accept()?;
    for side in [&client, &server] {
        side.set_read_timeout(Some(PATIENCE))?;
        side.set_write_timeout(Some(PATIENCE))?;
    }
    let sent: Vec<u8> = (0..octets).map(|i| (i % 251) as u8).collect();
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            let mut got = vec![0; octets];
            server.read_exact(&mut got).context("on the way there")?;
            server.write_all(&got).context("on the way back")
        });
        let asked = client.write_all(&sent).context("sending");
        let mut back = vec![0; octets];
        let heard = asked.and_then(|()| client.read_exact(&mut back).context("receiving"));
        echo.join().map_err(|_| anyhow!("the server panicked"))??;
        heard?;
        ensure!(back == sent, "the octets have changed on the way");
        Ok(())
    })
}
