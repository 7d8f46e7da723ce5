//! The edges of a quorum: the socket, the disk, the probes, and operators who wait.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use smol::channel::Sender;

use crate::config::{FailBack, RaftSettings};
use crate::engine::{self, Input, ProbeRule, QuorumConfig, QuorumTiming};
use crate::io::peers::Peers;
use crate::io::probe::{CheckCommand, HealthTarget, ProbeTargets, Prober};
use crate::io::process::entropy;
use crate::io::serve::Order;
use crate::io::store::{Store, StoreThread, machine_id};
use crate::io::farewell;
use crate::model::{Envelope, Farewell, Life, Probe, RequestId, StoreRecord};
use crate::wire::quorum::Keys;

type Waiting = Sender<Result<String, String>>;

pub(super) struct Members {
    peers: Rc<Peers>,
    store: StoreThread,
    prober: Prober,
    farewell: Vec<PathBuf>,
    waiting: BTreeMap<RequestId, Waiting>,
    asked: u32,
}

impl Members {
    /// Opens all there is to open; what stands on disk goes to the engine.
    pub fn start(
        raft: &RaftSettings,
        instance: &str,
        named: Option<&str>,
        answers: &Sender<Input>,
    ) -> Result<(Self, QuorumConfig), String> {
        let keys = match &raft.keys {
            None => Keys::insecure(),
            Some(it) => Keys::new(it.current.clone(), it.previous.clone())
                .map_err(|why| format!("vip_keyfile={}: {why}", it.file.display()))?,
        };
        let peers = Peers::open(raft.address, keys).map_err(|it| it.to_string())?;
        let store = Store::new(&raft.state_dir, named, machine_id());
        let stored = store.load().map_err(|it| it.to_string());
        if let Err(why) = &stored {
            log::error!("this member stays out of the vote: {why}");
        }
        let farewell = farewell::farewell_paths(instance);
        let deliver = answers.clone();
        let told = move |number, failure| {
            let _ = deliver.try_send(Input::Stored { number, failure });
        };
        let store = StoreThread::start(store, Arc::new(told))
            .map_err(|it| format!("cannot start a thread: {it}"))?;
        let deliver = answers.clone();
        let probed = move |probe, failure| {
            let _ = deliver.try_send(Input::Probed { probe, failure });
        };
        let config = QuorumConfig {
            life: Life(entropy()),
            address: raft.address,
            listed: raft.members.clone(),
            timing: timing(raft),
            found_alone: raft.found_alone,
            stored,
            farewell: farewell::take(&farewell),
            fail_back: fail_back(raft.fail_back),
            health: raft.health.as_ref().map(|it| ProbeRule {
                interval: it.interval,
                fall: it.fall,
                rise: 1,
                weight: HEALTH_WEIGHT,
            }),
            check: raft.check.as_ref().map(|it| ProbeRule {
                interval: it.interval,
                fall: it.fall,
                rise: it.rise,
                weight: it.weight,
            }),
        };
        let members = Self {
            peers: Rc::new(peers),
            store,
            prober: Prober::start(targets(raft), Arc::new(probed)),
            farewell,
            waiting: BTreeMap::new(),
            asked: 0,
        };
        Ok((members, config))
    }

    /// Hands on what members say, for as long as it is let.
    pub fn listen(&self, inbox: Sender<Input>) -> impl Future<Output = ()> + use<> {
        let peers = self.peers.clone();
        async move {
            loop {
                let input = match peers.next().await {
                    Ok((address, ttl, envelope)) => {
                        Input::Peer { address, ttl, envelope: Box::new(envelope) }
                    }
                    Err(why) => {
                        log::error!("cannot hear members: {why}");
                        smol::Timer::after(super::LOCK_EVERY).await;
                        continue;
                    }
                };
                if inbox.send(input).await.is_err() {
                    return;
                }
            }
        }
    }

    /// A datagram that cannot be sent is one that is lost.
    pub fn send(&self, to: SocketAddr, envelope: &Envelope) {
        if let Err(why) = self.peers.send(to, envelope) {
            log::debug!(to:%; "not sent: {why}");
        }
    }

    pub fn store(&self, number: u64, record: StoreRecord) {
        self.store.write(number, record);
    }

    pub fn probe(&mut self, probe: Probe) {
        self.prober.ask(probe);
    }

    pub fn leave(&self, farewell: &Farewell) {
        if let Err(why) = farewell::leave(&self.farewell, farewell) {
            log::warn!("the next start has to wait for what was promised: {why}");
        }
    }

    /// An operator asks.
    pub fn order(&mut self, order: Order) -> Input {
        self.asked += 1;
        let request = RequestId(self.asked);
        self.waiting.insert(request, order.reply);
        Input::Order { request, call: order.call }
    }

    /// The answer to [`Members::order`]. Who asked may be gone.
    pub fn answer(&mut self, request: RequestId, outcome: Result<String, String>) {
        if let Some(reply) = self.waiting.remove(&request) {
            let _ = reply.try_send(outcome);
        }
    }

    /// Datagrams that were no good, by where they came from.
    pub fn bad(&self) -> Vec<(std::net::IpAddr, &'static str, u64)> {
        self.peers.bad()
    }
}

/// A node whose API server is dead is worse than one whose check fails.
const HEALTH_WEIGHT: u8 = 100;

fn timing(raft: &RaftSettings) -> QuorumTiming {
    let RaftSettings { heartbeat, promise, step, spread, .. } = *raft;
    QuorumTiming { heartbeat, promise, step, spread }
}

fn fail_back(it: FailBack) -> engine::FailBack {
    match it {
        FailBack::AtOnce => engine::FailBack::AtOnce,
        FailBack::Delayed => engine::FailBack::Delayed,
        FailBack::Never => engine::FailBack::Never,
    }
}

fn targets(raft: &RaftSettings) -> ProbeTargets {
    ProbeTargets {
        health: raft.health.as_ref().map(|it| HealthTarget {
            url: it.url.clone(),
            ca: it.ca.clone(),
            verify: it.verify,
            timeout: it.timeout,
        }),
        check: raft
            .check
            .as_ref()
            .map(|it| CheckCommand { command: it.command.clone(), timeout: it.timeout }),
    }
}
