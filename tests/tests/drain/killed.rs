//! What is known of the connections of a process that was killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::agent::drain::{Drains, End, LastCount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{CLIENT, Scene, counts, key, pools, until};

const GRACE: Duration = Duration::from_secs(10);
const KILLED: End<'_> = End { status: 137, signal: None, took: GRACE, grace: GRACE };

/// As in a container: the first process of a PID namespace, and another one that answers. The first one ends when its
/// standard input does, so that it does not outlive the test; and on SIGTERM only if it `heeds` that.
const SERVER: &str = r#"
import ctypes, os, signal, socket, sys, threading
CLONE_NEWPID = 0x20000000
if ctypes.CDLL(None).unshare(CLONE_NEWPID) != 0:
    sys.exit("no PID namespace: run the tests as root")
first = os.fork()
if first:
    os.waitpid(first, 0)
    os._exit(0)
server = socket.create_server(("0.0.0.0", 80), backlog=64)
def serve(connection):
    while data := connection.recv(64):
        connection.sendall(data)
    connection.close()
child = os.fork()
while child == 0:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
server.close()
if sys.argv[1] == "heeds":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print(os.readlink("/proc/self"), flush=True)
sys.stdin.read()
"#;

/// A process that serves in the replica's namespace.
struct Server {
    /// It ends with the namespace's first process, …
    parent: Child,
    /// … which the host numbers so.
    pid: u32,
}

impl Server {
    fn start(scene: &Scene, sigterm: &str) -> Result<Self> {
        let mut command = scene.replica.command("python3");
        command.args(["-c", SERVER, sigterm]);
        let mut parent = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(parent.stdout.take().context("a pipe")?).read_line(&mut line)?;
        let pid = line.trim().parse().with_context(|| format!("the server said {line:?}"))?;
        Ok(Self { parent, pid })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid)?), signal)?)
    }

    /// Waits without holding up the runtime.
    async fn ended(mut self) -> Result<()> {
        // It has its standard input still, which `wait` would close.
        let input = self.parent.stdin.take();
        tokio::task::spawn_blocking(move || self.parent.wait()).await??;
        drop(input);
        Ok(())
    }
}

fn asked(mut client: TcpStream) -> Result<TcpStream> {
    client.write_all(b"hello")?;
    let mut answer = [0; 5];
    client.read_exact(&mut answer)?;
    ensure!(&answer == b"hello");
    Ok(client)
}

#[test]
fn the_number_of_connections_before_a_sigkill_is_known_after_it() -> Result<()> {
    // The processes close their sockets one after the other, and a count in between must not be the one that is kept.
    for round in 0..10 {
        let scene = Scene::new()?;
        let server = Server::start(&scene, "ignores")?;
        let mut clients = (0..20).map(|_| asked(scene.connect(CLIENT, 80)?)).collect::<Result<Vec<_>>>()?;
        let mut meter = scene.meter()?;
        scene.skepd(async |_, netns| {
            let last = Drains::new(pools()?).last_count(&key(1), netns, server.pid).await?;
            assert_eq!(last.cut(&KILLED), 20);
            server.signal(Signal::SIGTERM)?;
            // Meanwhile some end by themselves.
            clients.truncate(13);
            comes_to(&last, 13).await?;
            server.signal(Signal::SIGKILL)?;
            server.ended().await?;
            counts(&mut meter, 0, 0).await?;
            // Time for counts that must not be made any more.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(last.cut(&KILLED), 13, "round {round}");
            Ok(())
        })?;
    }
    Ok(())
}

async fn comes_to(last: &LastCount, connections: u32) -> Result<()> {
    until(&format!("{connections} connections"), async || Ok(last.cut(&KILLED) == connections)).await
}

#[test]
fn who_ended_by_itself_cut_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let server = Server::start(&scene, "heeds")?;
    let _client = asked(scene.connect(CLIENT, 80)?)?;
    scene.skepd(async |_, netns| {
        let last = Drains::new(pools()?).last_count(&key(1), netns, server.pid).await?;
        server.signal(Signal::SIGTERM)?;
        server.ended().await?;
        let end = End { status: 0, took: Duration::from_millis(50), ..KILLED };
        assert_eq!(last.cut(&end), 0);
        Ok(())
    })
}
