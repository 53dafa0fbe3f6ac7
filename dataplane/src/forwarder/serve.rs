use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use super::Config;
use super::asker::{Asker, Askers};
use super::message::{self, Incoming, Question};
use super::resolv_conf::ResolvConf;
use super::resolver::Resolver;
use super::upstream::Upstream;

/// How long what has been begun may take when the process is to stop; longer than any question takes.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a question came, and so how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Who asks may know what: the part that UDP and TCP share.
pub(super) struct Service {
    askers: Askers,
    resolver: Arc<Resolver>,
    running: watch::Sender<usize>,
}

impl Service {
    pub(super) fn new(config: &Config) -> Self {
        let conf = ResolvConf::new(config.resolv_conf.clone(), config.address);
        Self {
            askers: Askers::new(&config.bpffs),
            resolver: Resolver::new(Upstream::new(conf)),
            running: watch::Sender::new(0),
        }
    }

    /// Whose question comes in through this device from this address; nobody's is not answered.
    pub(super) fn asker(&self, ifindex: u32, address: Ipv4Addr) -> Option<Asker> {
        self.askers.find(ifindex, address)
    }

    /// The answer; `None` for what is better left without one.
    pub(super) async fn answer(&self, asker: &Asker, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match message::read(bytes) {
            Incoming::Question(question) => question,
            Incoming::Refused(answer) => return Some(answer),
            Incoming::Nothing => return None,
        };
        if let Some(answer) = asker.in_zone(&question) {
            return Some(answer);
        }
        if !asker.may_ask(question.name()) {
            return question.nonexistent();
        }
        self.outside(&question, transport).await
    }

    async fn outside(&self, question: &Question, transport: Transport) -> Option<Vec<u8>> {
        let limit = match transport {
            Transport::Udp => question.udp_limit(),
            Transport::Tcp => usize::from(u16::MAX),
        };
        match self.resolver.resolve(question.key()).await {
            Some(reply) => question.answer(&reply, limit).or_else(|| question.failure()),
            None => question.failure(),
        }
    }

    /// The answer to a question for which there is no room.
    pub(super) fn overloaded(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match message::read(bytes) {
            Incoming::Question(question) => question.failure(),
            Incoming::Refused(answer) => Some(answer),
            Incoming::Nothing => None,
        }
    }

    /// Runs a task that [`Self::finish`] waits for.
    pub(super) fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let running = self.running.clone();
        running.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            task.await;
            running.send_modify(|count| *count -= 1);
        });
    }

    /// Until every task has ended, or time is up.
    pub(super) async fn finish(&self) {
        let mut running = self.running.subscribe();
        if tokio::time::timeout(FINISH_TIMEOUT, running.wait_for(|count| *count == 0)).await.is_err() {
            warn!(unfinished = *self.running.borrow(), "Some questions are left without an answer.");
        }
    }
}
