//! The JSON of a Service.

use serde::Deserialize;

use super::{DecodeError, Metadata, list};
use crate::model::{FamilyPolicy, Ingress, IpFamily, Protocol, Service, ServicePort};

#[derive(Deserialize)]
pub(super) struct ServiceJson {
    metadata: Metadata,
    #[serde(default)]
    spec: Option<ServiceSpec>,
    #[serde(default)]
    status: Option<ServiceStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    r#type: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    external_traffic_policy: Option<String>,
    ip_families: Option<Vec<FamilyJson>>,
    /// It is spelled alike.
    ip_family_policy: Option<FamilyPolicy>,
    ports: Option<Vec<PortJson>>,
}

#[derive(Clone, Copy, Deserialize)]
enum FamilyJson {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

#[derive(Deserialize)]
struct PortJson {
    port: u16,
    protocol: Option<ProtocolJson>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ProtocolJson {
    Sctp,
    #[default]
    Tcp,
    Udp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Default, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<IngressJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressJson {
    ip: Option<String>,
    hostname: Option<String>,
    ip_mode: Option<String>,
    ports: Option<Vec<PortJson>>,
}

impl ServiceJson {
    pub fn read(mut self) -> Result<Service, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let spec = self.spec.unwrap_or_default();
        let ingress = self.status.unwrap_or_default().load_balancer.unwrap_or_default().ingress;
        let filled = |it: Option<String>| it.filter(|it| !it.is_empty());
        Ok(Service {
            name,
            uid: self.metadata.uid.unwrap_or_default(),
            version,
            balanced: spec.r#type.as_deref() == Some("LoadBalancer"),
            deleting: self.metadata.deletion_timestamp.is_some(),
            class: filled(spec.load_balancer_class),
            load_balancer_ip: filled(spec.load_balancer_ip),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
            families: list("/spec/ipFamilies", spec.ip_families, |it| {
                Ok(match it {
                    FamilyJson::V4 => IpFamily::V4,
                    FamilyJson::V6 => IpFamily::V6,
                })
            })?,
            family_policy: spec.ip_family_policy.unwrap_or_default(),
            ports: list("/spec/ports", spec.ports, |it| Ok(port(&it)))?,
            annotations: self.metadata.annotations.into(),
            labels: self.metadata.labels.into(),
            finalizers: list("/metadata/finalizers", self.metadata.finalizers, Ok)?,
            ingress: list("/status/loadBalancer/ingress", ingress, |it| {
                Ok(Ingress {
                    ip: it.ip.and_then(|it| it.parse().ok()),
                    hostname: filled(it.hostname),
                    ip_mode: filled(it.ip_mode),
                    ports: list("/status/loadBalancer/ingress/ports", it.ports, |it| {
                        Ok(port(&it))
                    })?,
                })
            })?,
        })
    }
}

fn port(it: &PortJson) -> ServicePort {
    let protocol = match it.protocol.unwrap_or_default() {
        ProtocolJson::Sctp => Protocol::Sctp,
        ProtocolJson::Tcp => Protocol::Tcp,
        ProtocolJson::Udp => Protocol::Udp,
    };
    ServicePort { port: it.port, protocol }
}
