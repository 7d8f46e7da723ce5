//! The JSON of EndpointSlices, Nodes and ConfigMaps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{DecodeError, EXCLUDED, MAX_LIST, Metadata, SERVICE_NAME, list, too_long};
use crate::model::{
    ClusterNode, ConfigMap, Endpoint, EndpointSlice, NodeName, ObjectName, PROVIDED,
};

#[derive(Deserialize)]
pub(super) struct SliceJson {
    metadata: Metadata,
    endpoints: Option<Vec<EndpointJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointJson {
    node_name: Option<String>,
    hostname: Option<String>,
    conditions: Option<Conditions>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
}

impl SliceJson {
    pub fn read(mut self) -> Result<Option<EndpointSlice>, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let Some(service) = self.metadata.labels.remove(SERVICE_NAME) else {
            return Ok(None);
        };
        let service = ObjectName::new(name.namespace.clone(), service);
        let endpoints = list("/endpoints", self.endpoints, |it| {
            let conditions = it.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            Ok(Endpoint {
                node: it
                    .node_name
                    .or(it.hostname)
                    .filter(|it| !it.is_empty())
                    .map(|it| NodeName(it.into())),
                ready,
                serving: conditions.serving.unwrap_or(ready),
            })
        })?;
        Ok(Some(EndpointSlice { name, version, service, endpoints }))
    }
}

#[derive(Deserialize)]
pub(super) struct NodeJson {
    metadata: Metadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeSpec {
    unschedulable: Option<bool>,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    conditions: Option<Vec<NodeCondition>>,
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

#[derive(Deserialize)]
struct NodeAddress {
    address: String,
}

impl NodeJson {
    pub fn read(mut self) -> Result<ClusterNode, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        let status = self.status.unwrap_or_default();
        let ready = |it: &NodeCondition| it.r#type == "Ready" && it.status == "True";
        let addresses = status.addresses.unwrap_or_default();
        if addresses.len() > MAX_LIST {
            return Err(too_long("/status/addresses"));
        }
        Ok(ClusterNode {
            name: NodeName(name.name.as_str().into()),
            version,
            ready: status.conditions.iter().flatten().any(ready),
            cordoned: self.spec.and_then(|it| it.unschedulable).unwrap_or_default(),
            excluded: self.metadata.labels.contains_key(EXCLUDED),
            provided: self
                .metadata
                .labels
                .into_iter()
                .filter(|it| it.0.starts_with(PROVIDED))
                .collect(),
            // Some are host names.
            addresses: addresses
                .iter()
                .filter_map(|it| it.address.parse::<IpAddr>().ok())
                .collect(),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct ConfigMapJson {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
}

impl ConfigMapJson {
    pub fn read(mut self) -> Result<ConfigMap, DecodeError> {
        let (name, version) = self.metadata.take_name()?;
        Ok(ConfigMap { name, version, data: self.data.unwrap_or_default() })
    }
}
