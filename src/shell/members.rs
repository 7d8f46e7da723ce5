//! The edges of a quorum: the socket, the disk, the probes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use smol::channel::Sender;

use super::start;
use crate::config::{Config, FailBack, RaftSettings, kubeconfig, sources};
use crate::engine::{
    self, DiscoverConfig, Input, ProbeRule, QuorumApi, QuorumConfig, QuorumTiming,
};
use crate::io::farewell;
use crate::io::peers::Peers;
use crate::io::probe::{CheckCommand, HealthTarget, ProbeTargets, Prober};
use crate::io::process::{entropy, machine_id};
use crate::io::store::{Store, StoreThread};
use crate::model::{Author, Ear, Envelope, Farewell, Life, Probe, QuorumStatus, StoreRecord};
use crate::wire::quorum::Keys;

pub(super) struct Members {
    peers: Rc<Peers>,
    store: StoreThread,
    prober: Prober,
    farewell: Vec<PathBuf>,
}

impl Members {
    /// Opens all there is to open; what stands on disk goes to the engine.
    pub fn start(
        raft: &RaftSettings,
        instance: Option<&str>,
        api: Option<QuorumApi>,
        answers: &Sender<Input>,
    ) -> Result<(Self, QuorumConfig), String> {
        let keys = match &raft.keys {
            None => Keys::insecure(),
            Some(it) => Keys::new(&it.current, it.previous.as_deref())
                .map_err(|why| format!("vip_keyfile={}: {why}", it.file.display()))?,
        };
        // Members that find each other are heard by a group too, which no one address is.
        let at = match raft.discover {
            Some(_) => SocketAddr::from(([0; 4], raft.address.port())),
            None => raft.address,
        };
        let peers = Peers::open(at, keys).map_err(|it| it.to_string())?;
        let store = Store::new(&raft.state_dir, instance, machine_id());
        let stored = store.load().map_err(|it| it.to_string());
        if let Err(why) = &stored {
            log::error!("this member stays out of the vote: {why}");
        }
        // Beside the store: it speaks of the same member, and survives what clears /run.
        let farewell = vec![store.file().with_extension("farewell")];
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
            discover: raft.discover.as_ref().map(|it| DiscoverConfig {
                voters: it.voters,
                port: raft.address.port(),
                address: Some(raft.address.ip()).filter(|it| !it.is_unspecified()),
                witness: raft.members.get(&raft.me).is_some_and(|it| !it.role.carries()),
            }),
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
            api,
        };
        let members = Self {
            peers: Rc::new(peers),
            store,
            prober: Prober::start(targets(raft), Arc::new(probed)),
            farewell,
        };
        Ok((members, config))
    }

    /// What a member says, if one does.
    pub fn hear(&self) -> io::Result<Option<Input>> {
        let heard = self.peers.take()?;
        Ok(heard.map(|(address, ttl, envelope)| Input::Peer {
            address,
            ttl,
            envelope: Box::new(envelope),
        }))
    }

    /// The socket that members are heard by.
    pub fn peers(&self) -> Rc<Peers> {
        self.peers.clone()
    }

    /// A datagram that cannot be sent is one that is lost.
    pub fn send(&self, to: SocketAddr, envelope: &Envelope) {
        if let Err(why) = self.peers.send(to, envelope) {
            log::debug!(to:%; "not sent: {why}");
        }
    }

    /// Nobody on the link is found by what cannot be listened to.
    pub fn listen(&self, ear: &Ear) {
        if let Err(why) = self.peers.listen(ear) {
            log::error!("members on the link are not found: {why}");
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
}

/// What a member is to tell and ask the API server beside, if there is one or has to be.
pub(super) fn beside(config: &Config, author: Author) -> Option<QuorumApi> {
    let raft = config.raft.as_ref()?;
    let needed = raft.from_nodes || config.services.is_some();
    let there = needed || kubeconfig::is_there(&config.kube, &sources::read);
    there.then(|| QuorumApi {
        lease: start::lease(config),
        duration: config.lease.duration,
        author,
        nodes: raft.from_nodes.then(machine_id),
    })
}

/// Datagrams that were no good are counted where they came from.
pub(super) fn add_bad(quorum: &mut QuorumStatus, bad: &[(IpAddr, &'static str, u64)]) {
    for it in &mut quorum.members {
        for (_, code, count) in bad.iter().filter(|(from, ..)| *from == it.address.ip()) {
            *it.bad.entry((*code).to_owned()).or_default() += count;
        }
    }
    let known = |ip: &IpAddr| quorum.members.iter().any(|it| it.address.ip() == *ip);
    let others: Vec<_> = bad.iter().filter(|(from, ..)| !known(from)).collect();
    let Some(discovery) = &mut quorum.discovery else { return };
    for (from, code, count) in others {
        let codes = discovery.refused.entry(from.to_string()).or_default();
        *codes.entry((*code).to_owned()).or_default() += count;
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
