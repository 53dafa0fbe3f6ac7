use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use futures_util::Stream;
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::{Change, Netlink, NetlinkError};

/// An open network namespace. It lives as long as this does, even when its last process is gone.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u64,
}

impl Netns {
    /// The namespace of a process, seen through `/proc`.
    ///
    /// # Errors
    /// [`NetlinkError::OpenNetns`] when the process is gone.
    pub fn of_pid(pid: u32) -> Result<Self, NetlinkError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// A namespace file.
    ///
    /// # Errors
    /// [`NetlinkError::OpenNetns`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, NetlinkError> {
        let open = || {
            let file = File::open(path)?;
            let inode = file.metadata()?.ino();
            Ok(Self { file, inode })
        };
        open().map_err(|source| NetlinkError::OpenNetns { path: path.to_owned(), source })
    }

    /// Number that `ls -l /proc/<pid>/ns/net` shows; another one means another namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// `SO_NETNS_COOKIE`, what the socket programs know the namespace by; never reused until reboot.
    ///
    /// # Errors
    /// [`NetlinkError::Cookie`] on kernels before 5.14.
    pub async fn cookie(&self) -> Result<u64, NetlinkError> {
        let inode = self.inode;
        self.run(move || netns_cookie().map_err(|source| NetlinkError::Cookie { inode, source })).await
    }

    /// A connection that speaks to this namespace. A socket belongs to the namespace it was made
    /// in for good, so only its making needs a thread inside.
    ///
    /// # Errors
    /// [`NetlinkError::EnterNetns`], [`NetlinkError::Socket`].
    pub async fn netlink(&self) -> Result<Netlink, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        self.run(move || {
            let _guard = runtime.enter();
            Netlink::connect()
        })
        .await
    }

    /// A TCP socket of this namespace, for an address of that family; to be connected.
    ///
    /// # Errors
    /// [`NetlinkError::EnterNetns`], [`NetlinkError::Request`].
    pub async fn tcp_socket(&self, peer: SocketAddr) -> Result<TcpSocket, NetlinkError> {
        let object = format!("in net:[{}]", self.inode);
        self.run(move || {
            let made = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            made.map_err(|source| NetlinkError::Request { operation: "make a socket", object, source })
        })
        .await
    }

    /// [`Netlink::changes`] of this namespace.
    pub(super) async fn changes(&self) -> Result<impl Stream<Item = Change> + Send + Unpin + use<>, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        self.run(move || {
            let _guard = runtime.enter();
            Netlink::changes()
        })
        .await
    }

    /// Runs `work` on a thread of its own inside the namespace. The thread ends with it: a thread of
    /// the runtime's pool must never be left in another namespace.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, NetlinkError> + Send + 'static,
    ) -> Result<T, NetlinkError> {
        let inode = self.inode;
        let refused = move |source| NetlinkError::EnterNetns { inode, source };
        let file = self.file.try_clone().map_err(refused)?;
        let (send, receive) = oneshot::channel();
        std::thread::Builder::new()
            .name("in-netns".to_owned())
            .spawn(move || {
                let result = match setns(file.as_fd(), CloneFlags::CLONE_NEWNET) {
                    Ok(()) => work(),
                    Err(errno) => Err(refused(errno.into())),
                };
                // The receiver is gone when the caller was cancelled: nobody wants the result then.
                drop(send.send(result));
            })
            .map_err(refused)?;
        receive.await.map_err(|_| refused(io::Error::other("the thread ended without a result")))?
    }

    pub(super) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

/// Cookie of the calling thread's namespace.
fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the socket is open for the call, and the kernel writes at most `len` bytes to `cookie`, which has them.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
