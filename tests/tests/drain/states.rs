//! Which states of a TCP connection count.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{CLIENT, PATIENCE, Scene};

#[test]
fn a_client_that_has_said_all_still_waits_for_the_answer() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    let (client, (accepted, _)) = (scene.connect(CLIENT, 80)?, server.accept()?);
    let mut meter = scene.meter()?;
    client.shutdown(Shutdown::Write)?;
    tests::wait_for("CLOSE_WAIT", PATIENCE, || Ok((scene.sockets("close-wait")? == 1).then_some(())))?;
    scene.counts(&mut meter, 1, 0)?;
    drop(accepted);
    scene.counts(&mut meter, 0, 0)
}

#[test]
fn what_the_server_has_ended_does_not_count_even_if_the_client_holds_on() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    let (client, (accepted, _)) = (scene.connect(CLIENT, 80)?, server.accept()?);
    let mut meter = scene.meter()?;
    scene.counts(&mut meter, 1, 0)?;
    accepted.shutdown(Shutdown::Write)?;
    scene.counts(&mut meter, 0, 0)?;
    tests::wait_for("FIN_WAIT2", PATIENCE, || Ok((scene.sockets("fin-wait-2")? == 1).then_some(())))?;
    scene.counts(&mut meter, 0, 0)?;
    drop(client);
    tests::wait_for("TIME_WAIT", PATIENCE, || Ok((scene.sockets("time-wait")? == 1).then_some(())))?;
    scene.counts(&mut meter, 0, 0)
}

#[test]
fn an_answer_that_a_slow_client_has_not_read_counts_after_the_server_ended_it() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    let (mut client, (accepted, _)) = (scene.connect(CLIENT, 80)?, server.accept()?);
    let mut meter = scene.meter()?;
    let written = fill(accepted)?;
    tests::wait_for("FIN_WAIT1", PATIENCE, || Ok((scene.sockets("fin-wait-1")? == 1).then_some(())))?;
    scene.counts(&mut meter, 1, 0)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    ensure!(answer.len() == written, "{} octets of {written}", answer.len());
    scene.counts(&mut meter, 0, 0)
}

/// Writes until nothing more fits between the two, and closes.
fn fill(mut stream: TcpStream) -> Result<usize> {
    // The client's kernel goes on taking a little now and then: full is when nothing fits for a while.
    stream.set_write_timeout(Some(Duration::from_millis(300)))?;
    let mut written = 0;
    loop {
        match stream.write(&[0; 1 << 16]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(written),
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn who_never_ends_the_handshake_holds_nobody_up() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    // The server's kernel takes the handshake for ended when the client says something.
    let seconds: libc::c_int = 60;
    // SAFETY: the option's value is an int, as long as it is said to be.
    let done = unsafe {
        libc::setsockopt(
            server.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    ensure!(done == 0, "TCP_DEFER_ACCEPT: {}", std::io::Error::last_os_error());
    let mut client = scene.connect(CLIENT, 80)?;
    let mut meter = scene.meter()?;
    tests::wait_for("SYN_RECV", PATIENCE, || Ok((scene.sockets("syn-recv")? == 1).then_some(())))?;
    scene.counts(&mut meter, 0, 0)?;
    client.write_all(b"?")?;
    scene.counts(&mut meter, 1, 0)
}

#[test]
fn a_server_that_has_stopped_listening_still_serves() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    let mut meter = scene.meter()?;
    let (client, (accepted, _)) = (scene.connect(CLIENT, 80)?, server.accept()?);
    scene.counts(&mut meter, 1, 0)?;
    drop(server);
    tests::wait_for("no listener", PATIENCE, || Ok((scene.sockets("listening")? == 0).then_some(())))?;
    scene.counts(&mut meter, 1, 0)?;
    drop((client, accepted));
    scene.counts(&mut meter, 0, 0)
}

#[test]
fn another_namespace_is_not_counted() -> Result<()> {
    let (scene, other) = (Scene::new()?, Scene::new()?);
    let (server, _other) = (scene.listen("0.0.0.0:80")?, other.listen("0.0.0.0:80")?);
    let _client = scene.connect(CLIENT, 80)?;
    let _accepted = server.accept()?;
    scene.counts(&mut scene.meter()?, 1, 0)?;
    other.counts(&mut other.meter()?, 0, 0)
}
