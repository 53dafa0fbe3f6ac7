//! Where nodes ask to be let in, and who is let in: open while an invitation of this node waits for somebody.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::authority::{Authority, Told};
use super::files::{Cluster, Files};
use super::token::{ID, SECRET, Token};
use super::users::{self, Users};
use super::{Answer, ClusterError, Question, Welcome, reach, talk};
use crate::clock::unix;
use crate::config::Config;
use crate::membership;
use crate::model::{Admission, Invitation, name};
use crate::private::{self, failed};
use crate::store::schema::{self, Subject, Versioned};
use crate::store::{ClusterKey, Outcome, Range, Store, Txn};

/// Whoever has not asked until then is not heard.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many are heard at a time.
const GUESTS: usize = 8;
/// Between attempts, when the store or etcd does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// This node's door.
pub struct Door {
    store: Arc<dyn Store>,
    config: Arc<Config>,
    files: Files,
    cluster: Cluster,
    authority: Authority,
    key: ClusterKey,
    listener: Mutex<Option<Arc<TcpListener>>>,
    guests: Arc<Semaphore>,
}

impl Door {
    /// The door of a node that has the authority's key; others have none.
    ///
    /// # Errors
    /// [`ClusterError`] when the key cannot be read.
    pub fn of(config: &Arc<Config>, store: Arc<dyn Store>) -> Result<Option<Self>, ClusterError> {
        let files = Files::of(&config.state_dir);
        let Some(cluster) = files.cluster()? else { return Ok(None) };
        let path = files.authority();
        let Some(authority) = private::read(&path, "make the cluster anew")? else { return Ok(None) };
        let authority = str::from_utf8(&authority).map_err(io::Error::other).map_err(failed("read", &path))?;
        let authority = Authority::from_pem(authority)?;
        let Some(key) = ClusterKey::open(&config.state_dir)? else { return Ok(None) };
        let (listener, guests) = (Mutex::default(), Arc::new(Semaphore::new(GUESTS)));
        Ok(Some(Self { store, config: Arc::clone(config), files, cluster, authority, key, listener, guests }))
    }

    /// Invites somebody, for so long.
    ///
    /// # Errors
    /// [`ClusterError`]; nobody is invited then.
    pub async fn invite(&self, within: Duration) -> Result<(Token, Invitation), ClusterError> {
        // Who cannot be asked invites nobody.
        self.open().await?;
        let token = Token::make(self.address()?)?;
        let invitation = Invitation {
            node: self.config.node_name.clone(),
            secret: STANDARD.encode(*token.secret),
            until: unix() + u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        let key = schema::invitation(&hex(&token.id));
        let txn = Txn::default().when(&key, None).put(&key, &self.key.seal(&key, &invitation)?)?;
        self.store.txn(txn).await?;
        Ok((token, invitation))
    }

    /// Hears who asks, and sees to it that etcd lets nobody in who was removed, for as long as it is polled.
    pub async fn keep(self: Arc<Self>) -> Infallible {
        loop {
            let Err(error) = self.watch().await;
            warn!(%error, "Cannot look after who may join; trying again.");
            sleep(RETRY).await;
        }
    }

    /// Until something goes wrong.
    async fn watch(self: &Arc<Self>) -> Result<Infallible, ClusterError> {
        loop {
            let invitations = self.store.range(schema::invitations().as_str()).await?;
            let mut changes = self.store.watch("/", invitations.revision).await?;
            let waiting = self.waiting(invitations).await?;
            self.dismiss().await?;
            let listener = match waiting {
                Some(_) => Some(self.open().await?),
                None => {
                    drop(self.listener.lock().await.take());
                    None
                }
            };
            let expiry = sleep(waiting.unwrap_or(Duration::MAX));
            tokio::pin!(expiry);
            loop {
                tokio::select! {
                    Some((guest, permit)) = accept(listener.as_deref(), &self.guests) => {
                        let door = Arc::clone(self);
                        tokio::spawn(async move { door.hear(guest, permit).await });
                    }
                    () = &mut expiry => break,
                    change = changes.next() => match change {
                        Some(Ok(events)) if !events.iter().any(|event| is_ours(event.key())) => {}
                        Some(Ok(_)) | None => break,
                        Some(Err(error)) => return Err(error.into()),
                    },
                }
            }
        }
    }

    /// How long the last invitation of this node waits, if there is one. Those that have expired are taken back.
    async fn waiting(&self, invitations: Range) -> Result<Option<Duration>, ClusterError> {
        let (now, mut longest) = (unix(), None);
        for entry in invitations.entries {
            let Some(Subject::Invitation(id)) = Subject::of(&entry.key) else { continue };
            let key = schema::invitation(&id);
            let invitation = self.key.unseal(&key, &schema::decode(&entry)?.value)?;
            match invitation.until.checked_sub(now).filter(|left| *left > 0) {
                _ if invitation.node != self.config.node_name => {}
                Some(left) => longest = longest.max(Some(Duration::from_millis(left))),
                None => drop(self.store.txn(Txn::default().delete(&key)).await?),
            }
        }
        Ok(longest)
    }

    /// Where others ask.
    fn address(&self) -> Result<SocketAddr, ClusterError> {
        let own = membership::own_address(self.config.node_address).ok_or(ClusterError::NoAddress)?;
        Ok(SocketAddr::new(own, self.config.join_port))
    }

    /// The listener, which is made if there is none.
    async fn open(&self) -> Result<Arc<TcpListener>, ClusterError> {
        let mut listener = self.listener.lock().await;
        if let Some(listener) = listener.as_ref() {
            return Ok(Arc::clone(listener));
        }
        let address = self.address()?;
        let bound = match TcpListener::bind(address).await {
            // Others reach this machine by an address that is not its own.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let any: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                TcpListener::bind((any, address.port())).await
            }
            bound => bound,
        };
        let made = Arc::new(bound.map_err(|source| ClusterError::Listen { address, source })?);
        *listener = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Has etcd let nobody in whose node was removed.
    async fn dismiss(&self) -> Result<(), ClusterError> {
        let (admissions, _) = schema::range_json(self.store.as_ref(), &schema::admissions()).await?;
        let admitted: BTreeSet<String> = admissions.into_iter().map(|admission| admission.value.user).collect();
        for user in self.users().await?.keep_only(&admitted).await? {
            info!(user, "etcd does not let a removed node in any more.");
        }
        Ok(())
    }

    async fn users(&self) -> Result<Users, ClusterError> {
        Users::connect(&self.cluster.members, reach::options(&self.files.etcd(&self.cluster))?).await
    }

    async fn hear(&self, mut guest: TcpStream, _permit: OwnedSemaphorePermit) {
        let from = guest.peer_addr().ok();
        match timeout(PATIENCE, self.answer(&mut guest)).await {
            Ok(Ok(node)) => info!(node, ?from, "A node has joined."),
            Ok(Err(error)) => warn!(%error, ?from, "Somebody asked to join, and was not let in."),
            Err(_) => warn!(?from, "Somebody at the door said nothing."),
        }
    }

    /// Answers one who asks; the node that was let in.
    async fn answer(&self, guest: &mut TcpStream) -> Result<String, ClusterError> {
        let id = talk::id(guest).await?;
        let key = schema::invitation(&hex(&id));
        let nobody = || ClusterError::Talk("there is no such invitation".into());
        let Versioned { value: sealed, revision } =
            schema::get_json(self.store.as_ref(), &key).await?.ok_or_else(nobody)?;
        let invitation = self.key.unseal(&key, &sealed)?;
        if invitation.until <= unix() || invitation.node != self.config.node_name {
            return Err(nobody());
        }
        let secret = secret(&invitation).ok_or_else(nobody)?;
        let (question, heard): (Question, _) = talk::hear(guest, &id, &secret).await?;
        let node = question.node.clone();
        match self.admit(question, Txn::default().when(&key, Some(revision)).delete(&key)).await {
            Ok(welcome) => heard.answer(guest, &Answer::Welcome(welcome)).await.map(|()| node),
            Err(error) => {
                heard.answer(guest, &Answer::Refused(error.to_string())).await?;
                Err(error)
            }
        }
    }

    /// Makes somebody a node by `once`, the transaction that uses the invitation up. Whoever is refused has not used it.
    async fn admit(&self, question: Question, once: Txn) -> Result<Welcome, ClusterError> {
        let refuse = |why: String| Err(ClusterError::Refused(why));
        let node = &question.node;
        if name::normalise(node).ok().as_ref() != Some(node) {
            return refuse(format!("{node:?} is no name for a node: give another --node-name"));
        }
        let pools = self.config.pools();
        if question.pools != pools {
            return refuse(format!(
                "the cluster's pools are others: give --container-pool4 {} --container-pool6 {} --vip-pool4 {} --vip-pool6 {}",
                pools.container4, pools.container6, pools.vip4, pools.vip6
            ));
        }
        if schema::get_json(self.store.as_ref(), &schema::node(node)).await?.is_some() {
            return refuse(format!(
                "the cluster has a node {node}: give this one another --node-name, or `skepctl nodes remove {node}` first"
            ));
        }
        let Some(key) = STANDARD.decode(&question.key).ok().filter(|key| key.len() == 65 && key[0] == 4) else {
            return refuse("the key that was sent is none of P-256: use the skepd of the cluster".into());
        };
        let (user, admission) = (users::name(node)?, schema::admission(node));
        let certificate = self.authority.client(&user, &Told(&key))?;
        let before = schema::get_json(self.store.as_ref(), &admission).await?.map(|before| before.revision);
        let admitted = Admission { user: user.clone(), admits: false };
        if self.store.txn(once.when(&admission, before).put(&admission, &admitted)?).await? == Outcome::Conflict {
            return refuse(
                "the token was used at the same moment: make another one with `skepctl nodes invite`".into(),
            );
        }
        self.users().await?.admit(&user).await?;
        let (ca, key) = (self.authority.certificate()?, self.key.expose());
        Ok(Welcome { cluster: self.cluster.clone(), ca, certificate, key })
    }
}

/// One who comes, while there is a listener and room for another.
async fn accept(listener: Option<&TcpListener>, guests: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let permit = Arc::clone(guests).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((guest, _)) => Some((guest, permit)),
        Err(error) => {
            warn!(%error, "Cannot hear who asks to join.");
            sleep(RETRY).await;
            None
        }
    }
}

/// Whether it says who may come.
fn is_ours(key: &str) -> bool {
    matches!(Subject::of(key), Some(Subject::Invitation(_) | Subject::Admission(_)))
}

fn secret(invitation: &Invitation) -> Option<[u8; SECRET]> {
    STANDARD.decode(&invitation.secret).ok()?.try_into().ok()
}

fn hex(id: &[u8; ID]) -> String {
    format!("{:016x}", u64::from_be_bytes(*id))
}
