use std::collections::BTreeMap;
use std::net::IpAddr;

use super::wants::ADDRESSES;
use super::*;
use crate::engine::{Action, NextIds, Rng};
use crate::model::{
    Endpoint, EndpointSlice, FamilyPolicy, Ingress, IpFamily, ObjectCall, ObjectReply, Protocol,
    ResourceVersion, ServicePort,
};

/// A Service of type LoadBalancer with one port.
pub(in crate::engine) fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        version: ResourceVersion("1".into()),
        balanced: true,
        deleting: false,
        class: None,
        load_balancer_ip: None,
        local: false,
        families: vec![IpFamily::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![ServicePort { port: 80, protocol: Protocol::Tcp }],
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        finalizers: Vec::new(),
        ingress: Vec::new(),
    }
}
