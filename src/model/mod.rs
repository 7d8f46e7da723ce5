//! The nouns of edgevip: plain values, no behaviour beyond their own invariants.

mod access;
mod dhcp;
mod dhcp6;
mod envelope;
mod gateway;
mod kernel;
mod lease;
mod net;
mod pools;
mod quorum;
mod refusal;
mod report;
mod service;
mod status;
mod time;
mod words;

pub use access::{ApiAccess, Bytes, ClientCertificate, Token};
pub use dhcp::{
    Dhcp4Kind, Dhcp4Lease, Dhcp4Message, Dhcp4Packet, DhcpHeard, DhcpJob, DhcpPacket, DhcpRefusal,
    LeaseStatus, Leases,
};
pub use dhcp6::{
    Dhcp6Address, Dhcp6Code, Dhcp6Ia, Dhcp6Kind, Dhcp6Lease, Dhcp6Message, Dhcp6Packet, Dhcp6Status,
};
pub use envelope::{Company, Ear, Envelope, Hello};
pub use gateway::{
    Exposed, GatewayCall, GatewayFault, GatewayNo, GatewayRefusal, GatewayReply, Granted,
    MappingEntry, MappingStatus, Nonce, UpnpControl, Way, WayKind,
};
pub use kernel::{Fences, Frame, Guarded, Heard, KernelAnswer, KernelJob, LIFETIME_SLACK, OrderId};
pub use lease::{
    ApiFault, ApiFaultKind, Author, ControlPlaneNode, Foundation, Lease, LeaseCall, LeaseOwner,
    LeaseRecord, LeaseReply, NodeName, RequestId, ResourceVersion, SideCall, SideReply, WatchEvent,
};
pub use net::{
    Address, Hardware, Link, LinkIndex, LinkKind, LinkName, Mac, Make, NetworkChange, NewLink, Vip,
};
pub use pools::{AddressUse, FamilyUse, HeldAddress, PoolFault, PoolRefusal, PoolUse, family_name};
pub use quorum::{
    Assigned, ClusterCall, Entry, EntryId, Epoch, Farewell, Hold, HoldAnswer, HoldRefusal,
    LastPromise, Life, Member, MemberRole, Members, Message, Probe, Promised, RaftCall, Released,
    StoreRecord, Wishes, is_majority,
};
pub use refusal::{Refusal, ServiceRefusal};
pub use report::{Ailment, Report};
pub use service::{
    ClusterNode, ConfigMap, Endpoint, EndpointSlice, FamilyPolicy, Followed, Ingress, IpFamily,
    Named, NamedLease, Object, ObjectCall, ObjectEvent, ObjectName, ObjectReply, PROVIDED,
    Protocol, Service, ServicePatch, ServicePort,
};
pub use status::{
    ApiStatus, DiscoveryStatus, LinkStatus, MemberStatus, PlaceStatus, QuorumStatus, Role,
    ServiceStatus, ServicesStatus, Status, VipState, VipStatus, tolerance,
};
pub use time::Instant;
pub use words::Words;
