//! What a node is made of, before it begins.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use smol::channel::Sender;

use super::LOCK_EVERY;
use crate::config::rights::ALLOCATOR;
use crate::config::{
    Config, DhcpMac, DnsMode, FenceSetting, LinkSetting, ServiceSettings, VipSetting,
};
use crate::engine::{
    self, AnnouncerConfig, ClassRule, DhcpConfig, Election, Family, Input, LeaseConfig, LinkChoice,
    PoolsConfig, QuorumConfig, ServicesConfig, ServicesElection, WantedVip,
};
use crate::io::kernel::{FromKernel, KernelOptions, KernelThread, Monitors};
use crate::io::lock;
use crate::io::recorder::Recorder;
use crate::model::{Author, Fences, ObjectName, Vip};

pub(super) fn start_kernel(
    config: &Config,
    answers: Sender<Input>,
) -> Result<(KernelThread, Fences, Monitors), String> {
    let options = KernelOptions {
        instance: config.instance.clone(),
        fence: config.fence != FenceSetting::Off,
        guard: config.services.as_ref().is_some_and(|it| it.guards),
        lo_global_scope: config.lo_global_scope,
    };
    let deliver = move |news: FromKernel| {
        let input = match news {
            FromKernel::Answers(answers) => Input::Kernel(answers),
            FromKernel::Heard(heard) => Input::Heard(heard),
            FromKernel::Network(change) => Input::Network(change),
            FromKernel::RulesetChanged => Input::RulesetChanged,
        };
        let _ = answers.try_send(input);
    };
    KernelThread::start(options, Arc::new(deliver))
        .map_err(|it| format!("cannot reach the kernel: {it}"))
}

#[cfg(feature = "upnp")]
pub(super) use crate::io::gateway::Gateway;

/// Who speaks with the site's gateway, where Services are to be reached through it.
#[cfg(feature = "upnp")]
pub(super) fn start_gateway(config: &Config, answers: &Sender<Input>) -> Option<Gateway> {
    config.services.as_ref().filter(|it| it.gateway)?;
    let answers = answers.clone();
    Some(Gateway::start(Arc::new(move |request, reply| {
        let _ = answers.try_send(Input::Gateway { request, reply });
    })))
}

#[cfg(not(feature = "upnp"))]
pub(super) use none::{Gateway, start_gateway};

/// A build without it: the setting is refused, so nothing is ever asked.
#[cfg(not(feature = "upnp"))]
mod none {
    use super::{Config, Input, Sender};
    use crate::model::{GatewayCall, RequestId};

    pub enum Gateway {}

    impl Gateway {
        pub fn ask(&mut self, _: RequestId, _: GatewayCall) {
            match *self {}
        }
    }

    pub fn start_gateway(_: &Config, _: &Sender<Input>) -> Option<Gateway> {
        None
    }
}

pub(super) fn engine_config(
    config: &Config,
    author: Author,
    fences: Fences,
    quorum: Option<QuorumConfig>,
) -> engine::Config {
    engine::Config {
        me: config.node.clone(),
        author,
        election: match quorum {
            Some(quorum) => Election::Quorum(Box::new(quorum)),
            None => Election::Lease(LeaseConfig {
                name: lease(config),
                duration: config.lease.duration,
                renew_deadline: config.lease.renew_deadline,
                retry_period: config.lease.retry_period,
            }),
        },
        vips: wanted(config),
        family: match config.dns_mode {
            DnsMode::Dual => Family::Dual,
            DnsMode::First => Family::First,
            DnsMode::Ipv4 => Family::Ipv4,
            DnsMode::Ipv6 => Family::Ipv6,
        },
        lengths: (config.length_v4, config.length_v6),
        link: config.link.clone().map_or(LinkChoice::Auto, LinkChoice::Named),
        announcer: AnnouncerConfig { refresh: config.refresh, fences },
        skip_dad: config.skip_dad,
        preserve: config.preserve,
        label_node: config.label_node,
        services: config.services.as_ref().map(|it| services(config, it)),
    }
}

/// The Lease of the control plane.
pub(super) fn lease(config: &Config) -> ObjectName {
    ObjectName::new(config.lease.namespace.as_str(), config.lease.name.as_str())
}

/// Those of the peer's cloud provider.
const ALLOCATOR_TIMES: [Duration; 3] =
    [Duration::from_secs(15), Duration::from_secs(10), Duration::from_secs(2)];

fn services(config: &Config, it: &ServiceSettings) -> ServicesConfig {
    let (namespace, name) = it.lease.clone();
    let lease = LeaseConfig {
        name: ObjectName::new(namespace, name),
        duration: config.lease.duration,
        renew_deadline: config.lease.renew_deadline,
        retry_period: config.lease.retry_period,
    };
    let election = match (&config.raft, it.elects_each) {
        (Some(_), _) => ServicesElection::Quorum,
        (None, true) => ServicesElection::Each(lease),
        (None, false) => ServicesElection::One(lease),
    };
    ServicesConfig {
        namespace: it.namespace.clone(),
        class: ClassRule {
            name: it.class_name.clone(),
            only: it.class_only,
            legacy: it.class_legacy,
        },
        link: match &it.link {
            LinkSetting::AsControlPlane => None,
            LinkSetting::Auto => Some(LinkChoice::Auto),
            LinkSetting::Named(name) => Some(LinkChoice::Named(name.clone())),
        },
        writes: it.writes,
        election,
        on_demand: it.elects_some,
        gateway: it.gateway,
        guards: it.guards,
        labels_node: config.label_node,
        dhcp: Some(DhcpConfig { mac: dhcp_mac(it.dhcp_mac), attempts: it.dhcp_attempts }),
        pools: it.writes.then(|| PoolsConfig {
            config_map: ObjectName::new(it.pools.0.as_str(), it.pools.1.as_str()),
            lease: LeaseConfig {
                name: ObjectName::new(ALLOCATOR.0, ALLOCATOR.1),
                duration: ALLOCATOR_TIMES[0],
                renew_deadline: ALLOCATOR_TIMES[1],
                retry_period: ALLOCATOR_TIMES[2],
            },
        }),
    }
}

fn dhcp_mac(it: DhcpMac) -> engine::DhcpMac {
    match it {
        DhcpMac::Link => engine::DhcpMac::Link,
        DhcpMac::Macvlan => engine::DhcpMac::Macvlan,
        DhcpMac::Own => engine::DhcpMac::Own,
    }
}

pub(super) fn wanted(config: &Config) -> Vec<WantedVip> {
    let wanted = |it: &VipSetting| match it {
        VipSetting::Address(ip) => WantedVip::Address(Vip(*ip)),
        VipSetting::Name(name) => WantedVip::Name(name.clone()),
    };
    config.vips.iter().map(wanted).collect()
}

/// What a replay has to know.
#[derive(Serialize)]
struct Header<'a> {
    edgevip: &'a str,
    seed: u64,
    config: &'a engine::Config,
}

pub(super) fn start_recorder(
    config: &Config,
    engine_config: &engine::Config,
    seed: u64,
) -> Result<Option<Recorder>, String> {
    let Some(path) = &config.record else {
        return Ok(None);
    };
    let header = Header { edgevip: crate::VERSION, seed, config: engine_config };
    let recorder = Recorder::create(path, &header);
    recorder.map(Some).map_err(|it| format!("cannot record to {}: {it}", path.display()))
}

/// Holds the lock that makes this process the one of its host, or waits for it.
pub(super) async fn hold_lock(namespace: String, name: String, inbox: Sender<Input>) {
    let mut told = false;
    loop {
        match lock::try_lock(&namespace, &name) {
            Ok(Some(lock)) => {
                let _ = inbox.send(Input::Lock { held: true }).await;
                let _held_for_life = lock;
                return std::future::pending().await;
            }
            Ok(None) if !told => {
                told = true;
                let _ = inbox.send(Input::Lock { held: false }).await;
            }
            Ok(None) => {}
            Err(why) => log::error!("cannot take the lock of this host: {why}"),
        }
        smol::Timer::after(LOCK_EVERY).await;
    }
}
