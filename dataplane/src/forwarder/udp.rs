use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{debug, error};

use super::limits::Limits;
use super::serve::{Service, Transport};
use super::sockets::{self, Datagram};

/// Questions at once.
const QUESTIONS_MAX: usize = 1024;
/// Questions of one replica at once.
const CLIENT_MAX: usize = 128;
/// The longest question that is read; a name has 255 octets, the options of EDNS take the rest.
const QUESTION_MAX: usize = 4096;

/// Answers what comes over UDP, until aborted.
pub(super) async fn serve(socket: OwnedFd, service: Arc<Service>) {
    let socket = match UdpSocket::from_std(socket.into()) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return error!(%error, "Cannot serve DNS over UDP."),
    };
    let limits = Limits::new(QUESTIONS_MAX, CLIENT_MAX);
    let mut buffer = vec![0; QUESTION_MAX];
    loop {
        // Whoever aborts this does it here: no question is taken from the queue and then forgotten.
        let received = socket.async_io(Interest::READABLE, || sockets::receive(socket.as_fd(), &mut buffer)).await;
        let Datagram { len, peer, ifindex } = match received {
            Ok(datagram) => datagram,
            // An ICMP error about an earlier answer; the socket goes on.
            Err(error) => {
                debug!(%error, "Cannot receive a DNS question.");
                continue;
            }
        };
        let Some(asker) = service.asker(ifindex, *peer.ip()) else {
            debug!(%peer, ifindex, "Whose question that is, is unknown: dropped.");
            continue;
        };
        let question = buffer[..len].to_vec();
        let Some(permit) = limits.take(ifindex) else {
            reply(&socket, peer, service.overloaded(&question)).await;
            continue;
        };
        let (socket, service_of_task) = (Arc::clone(&socket), Arc::clone(&service));
        service.begin(async move {
            let answer = service_of_task.answer(&asker, &question, Transport::Udp).await;
            reply(&socket, peer, answer).await;
            drop(permit);
        });
    }
}

async fn reply(socket: &UdpSocket, peer: SocketAddrV4, answer: Option<Vec<u8>>) {
    let sent: io::Result<usize> = match answer {
        Some(answer) => socket.send_to(&answer, SocketAddr::V4(peer)).await,
        None => return,
    };
    if let Err(error) = sent {
        debug!(%peer, %error, "Cannot send a DNS answer.");
    }
}
