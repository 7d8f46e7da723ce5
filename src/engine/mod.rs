//! The engine: pure state machines. Inputs go in with the time, actions come out in order.

mod agenda;
mod announcer;
mod backoff;
mod dhcp;
mod draw;
mod elector;
mod guards;
mod leadership;
mod links;
mod mapping;
mod network;
mod node;
mod placement;
pub mod pools;
mod reporter;
mod resolver;
mod rng;
mod sabotage;
mod services;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use announcer::AnnouncerConfig;
#[cfg(feature = "sabotage")]
pub use elector::search;
pub use elector::{
    DiscoverConfig, Election, FailBack, LeaseConfig, ProbeRule, QuorumApi, QuorumConfig,
    QuorumTiming,
};
pub use network::{LinkChoice, MadeLink};
pub use node::{Config, Node};
pub use resolver::{Family, WantedVip};
pub use rng::Rng;
pub use sabotage::Sabotage;
#[cfg(feature = "sabotage")]
pub use sabotage::sabotage;
pub use services::{ClassRule, DhcpConfig, DhcpMac, PoolsConfig, ServicesConfig, ServicesElection};

use crate::model::{
    ApiFault, ClusterCall, DhcpHeard, DhcpJob, Ear, Envelope, Farewell, Followed, GatewayCall,
    GatewayReply, Heard, Instant, KernelAnswer, KernelJob, LeaseCall, LeaseReply, LinkIndex, Mac,
    NetworkChange, NodeName, ObjectCall, ObjectEvent, ObjectName, ObjectReply, OrderId, Probe,
    Refusal, RequestId, ResourceVersion, SideCall, SideReply, StoreRecord, Vip, WatchEvent,
};

/// Something that happened. The only way in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Input {
    /// The answer to [`Action::Ask`].
    Asked {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: ObjectReply,
    },
    /// A DHCP server speaks.
    Dhcp {
        /// The link it came in on.
        link: LinkIndex,
        /// What it says.
        heard: Box<DhcpHeard>,
    },
    /// The answer to [`Action::Gateway`].
    Gateway {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: GatewayReply,
    },
    /// A frame of somebody else's about a VIP arrived.
    Heard(Heard),
    /// The kernel thread did, or did not do, what it was asked. In the order of the orders.
    Kernel(Vec<(OrderId, KernelAnswer)>),
    /// The answer to [`Action::Lease`].
    Lease {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: LeaseReply,
    },
    /// Whether this process is the one of its host that may campaign.
    Lock {
        /// It is.
        held: bool,
    },
    /// The kernel has links, addresses or routes other than before.
    Network(NetworkChange),
    /// List and watch of what is followed have news, in the order it came.
    Objects {
        /// Of what.
        what: Followed,
        /// All that there was.
        events: Vec<ObjectEvent>,
    },
    /// An operator asks something of the cluster.
    Order {
        /// To be named in [`Action::Answer`].
        request: RequestId,
        /// What is asked.
        call: ClusterCall,
    },
    /// A member of the quorum, or one who says so, was heard; the key was right.
    Peer {
        /// Where it came from.
        address: SocketAddr,
        /// What its time to live, or hop limit, was on arrival: 255 if nobody forwarded it.
        ttl: u8,
        /// What it said.
        envelope: Box<Envelope>,
    },
    /// The answer to [`Action::Probe`].
    Probed {
        /// What was asked.
        probe: Probe,
        /// Why it failed, if it did.
        #[serde(default)]
        failure: Option<String>,
    },
    /// The configuration was read again, and these parts of it apply at once.
    Reload {
        /// The VIPs that are wanted from now on.
        vips: Vec<WantedVip>,
        /// See [`AnnouncerConfig::refresh`].
        refresh: Duration,
    },
    /// Somebody changed the nftables ruleset.
    RulesetChanged,
    /// The answer to [`Action::Side`].
    Side {
        /// The request that is answered.
        request: RequestId,
        /// What became of it.
        reply: SideReply,
    },
    /// The process was asked to stop.
    Stop,
    /// The answer to [`Action::Store`].
    Stored {
        /// Which.
        number: u64,
        /// Why it is not on disk, if it is not.
        #[serde(default)]
        failure: Option<String>,
    },
    /// The machine slept: the boot clock has gained on the monotonic one.
    Suspended,
    /// A deadline passed. Always safe to repeat.
    Tick,
    /// The watch on a Lease has news.
    Watch {
        /// On which.
        lease: ObjectName,
        /// What it says.
        event: WatchEvent,
    },
}

/// Something to do. The only way out. Actions are performed in order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Action {
    /// The answer to an operator's [`Input::Order`]: what happened, or why nothing did.
    Answer {
        /// Whose question.
        request: RequestId,
        /// In words.
        outcome: Result<String, String>,
    },
    /// Ask about a Service. There is exactly one answer, within
    /// [`ObjectCall::WITHIN`].
    Ask {
        /// To be named in the answer.
        request: RequestId,
        /// What to ask.
        call: ObjectCall,
    },
    /// Speak to DHCP servers, or listen to them.
    Dhcp(DhcpJob),
    /// The process may end: nothing is left to do.
    Exit,
    /// Leave this for the next start. It comes before [`Action::Exit`], if at all.
    Farewell(Farewell),
    /// List these objects, then watch them from there on. A watch that is open is replaced.
    Follow {
        /// Which objects.
        what: Followed,
        /// Do not list, but watch from this version on.
        from: Option<ResourceVersion>,
    },
    /// Ask the site's gateway. There is exactly one answer.
    Gateway {
        /// To be named in the answer.
        request: RequestId,
        /// What to ask.
        call: GatewayCall,
    },
    /// Ask the kernel thread.
    Kernel {
        /// To be named in the answer.
        order: OrderId,
        /// What to do.
        job: KernelJob,
    },
    /// Ask the API server about a Lease, on the connection that is this Lease's own.
    Lease {
        /// To be named in the answer.
        request: RequestId,
        /// Which Lease.
        lease: ObjectName,
        /// What to ask.
        call: LeaseCall,
        /// An answer after this is of no use; there must be an answer by then.
        give_up_at: Instant,
    },
    /// Ask how this node is.
    Probe(Probe),
    /// Be heard by those on a link.
    Listen(Ear),
    /// Say this to a member, or to a group on the link.
    Send {
        /// Where it listens.
        to: SocketAddr,
        /// What to say.
        envelope: Box<Envelope>,
    },
    /// Ask something that no election waits for.
    Side {
        /// To be named in the answer.
        request: RequestId,
        /// What to ask.
        call: SideCall,
    },
    /// Write this to disk, whole and at once. At most one is under way at a time.
    Store {
        /// To be named in the answer.
        number: u64,
        /// What to write.
        record: Box<StoreRecord>,
    },
    /// Something a user would notice: for the log, and for the user's command.
    Tell(Notice),
    /// Follow these objects no longer.
    Unfollow(Followed),
    /// Watch a Lease from this version on; `None`: from whatever it is.
    /// A watch that is open is replaced.
    Watch {
        /// Which Lease.
        lease: ObjectName,
        /// Where to resume.
        from: Option<ResourceVersion>,
    },
}

/// A change that a user would notice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Notice {
    /// This node answers for the VIP.
    Acquired(Vip),
    /// The API server answers again.
    ApiBack,
    /// The API server does not answer, or not as it should.
    ApiFault(ApiFault),
    /// Somebody else's frames claim a VIP that this node answers for.
    Conflict(Vip, Mac),
    /// Somebody removed the fence; it stands again.
    FenceRebuilt,
    /// What became of a Service's ports on the gateway.
    Gateway {
        /// Which Service.
        service: ObjectName,
        /// Why they are not to be reached, where they are not.
        code: Option<String>,
        /// In words.
        message: String,
    },
    /// The Lease has another holder, or none.
    Holder(Option<NodeName>),
    /// Somebody else removed the VIP's address; it is put back.
    Readded(Vip),
    /// Why the VIP is not answered for here.
    Refused(Vip, Refusal),
    /// This node does not answer for the VIP any more.
    Released(Vip),
    /// The Lease that should record who holds here is renewed by somebody who elects by it.
    Rival(NodeName),
}

/// When a machine next needs [`Input::Tick`], and why.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline {
    /// At the latest.
    pub at: Instant,
    /// What for.
    pub why: &'static str,
}

/// What every machine is handed: the time, randomness, and where actions go.
pub(crate) struct Cx<'a> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    pub out: &'a mut Vec<Action>,
    pub next: &'a mut NextIds,
}

/// Numbers for requests and orders: shared, so that an answer names one machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NextIds {
    request: u32,
    order: OrderId,
}

impl Cx<'_> {
    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn order(&mut self, job: KernelJob) -> OrderId {
        let order = self.next.order;
        self.next.order = order.next();
        self.out.push(Action::Kernel { order, job });
        order
    }

    fn next_request(&mut self) -> RequestId {
        self.next.request += 1;
        RequestId(self.next.request)
    }

    fn ask(&mut self, call: ObjectCall) -> RequestId {
        let request = self.next_request();
        self.out.push(Action::Ask { request, call });
        request
    }

    fn side(&mut self, call: SideCall) -> RequestId {
        let request = self.next_request();
        self.out.push(Action::Side { request, call });
        request
    }
}

/// How much earlier than promised the kernel is asked to stop answering: its timers are
/// as coarse as one tick of 100 Hz.
pub const FENCE_MARGIN: Duration = Duration::from_millis(10);
