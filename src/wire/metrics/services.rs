//! Metrics of Services, of the pools their addresses come out of, and of leases.

use super::{Kind, Page};
use crate::model::{FamilyUse, IpFamily, MappingStatus, PoolUse, ServiceStatus, ServicesStatus};

pub(super) fn metrics(page: &mut Page, services: &ServicesStatus) {
    let leads = u8::from(services.leads);
    let help = "1 while this node carries Services, or places them.";
    page.single("edgevip_services_leads", Kind::Gauge, help, leads);
    let known = u8::from(services.known && services.fault.is_none());
    let help = "1 if all Services have been read and news of them come.";
    page.single("edgevip_services_known", Kind::Gauge, help, known);
    service_metrics(page, &services.services);
    pool_metrics(page, &services.pools);
    lease_metrics(page, &services.services);
    mapping_metrics(page, &services.services);
}

fn service_metrics(page: &mut Page, services: &[ServiceStatus]) {
    let served = services.iter().filter(|it| it.code.is_none()).count();
    page.family(
        "edgevip_services",
        Kind::Gauge,
        "Services of ours, by whether something is amiss.",
    );
    page.sample(&[("state", "served")], served);
    page.sample(&[("state", "refused")], services.len() - served);
    page.family("edgevip_service_refusal", Kind::Gauge, "1 for why a Service is not served.");
    for it in services {
        if let Some(code) = &it.code {
            page.sample(&[("service", &it.name), ("code", code)], 1);
        }
    }
}

fn pool_metrics(page: &mut Page, pools: &[PoolUse]) {
    if pools.is_empty() {
        return;
    }
    page.family("edgevip_pool_is_readable", Kind::Gauge, "0 for a pool that nothing comes out of.");
    for it in pools {
        page.sample(&[("pool", &it.key)], u8::from(it.fault.is_none()));
    }
    page.family("edgevip_pool_addresses", Kind::Gauge, "Addresses of a pool, by what they are.");
    for (key, it) in families(pools) {
        let states = [
            ("free", it.free()),
            ("used", it.used),
            ("quarantined", it.quarantined),
            ("stranger", it.strangers),
        ];
        for (state, count) in states {
            let labels = [("pool", key), ("family", family(it.family)), ("state", state)];
            page.sample(&labels, count);
        }
    }
    page.family("edgevip_pool_is_exhausted", Kind::Gauge, "1 for a pool that has none left.");
    for (key, it) in families(pools) {
        let labels = [("pool", key), ("family", family(it.family))];
        page.sample(&labels, u8::from(it.free() == 0));
    }
}

fn families(pools: &[PoolUse]) -> impl Iterator<Item = (&str, &FamilyUse)> {
    pools.iter().flat_map(|pool| pool.families.iter().map(|it| (pool.key.as_str(), it)))
}

fn family(it: IpFamily) -> &'static str {
    match it {
        IpFamily::V4 => "ipv4",
        IpFamily::V6 => "ipv6",
    }
}

fn lease_metrics(page: &mut Page, services: &[ServiceStatus]) {
    let each = || services.iter().flat_map(|of| of.leases.iter().map(|it| (of.name.as_str(), it)));
    if each().next().is_none() {
        return;
    }
    page.family("edgevip_dhcp_lease", Kind::Gauge, "1 for what is being done about a lease.");
    for (service, it) in each() {
        page.sample(&[("service", service), ("phase", &it.phase)], 1);
    }
    let help = "Time left of a lease, if it ends and nothing is heard.";
    page.family("edgevip_dhcp_lease_ends_seconds", Kind::Gauge, help);
    for (service, it) in each() {
        if let (Some(address), Some(ends)) = (it.address, it.ends_ms) {
            let labels = [("service", service), ("address", &*address.to_string())];
            page.sample(&labels, ends as f64 / 1e3);
        }
    }
}

/// What of Services is on the site's gateway.
fn mapping_metrics(page: &mut Page, services: &[ServiceStatus]) {
    let each =
        || services.iter().flat_map(|of| of.mappings.iter().map(|it| (of.name.as_str(), it)));
    if each().next().is_none() {
        return;
    }
    page.family("edgevip_mapping", Kind::Gauge, "1 for each port that the gateway has.");
    for (service, it) in each() {
        let (vip, port) = parts(it);
        let labels = [("service", service), ("vip", &*vip), ("port", &*port)];
        page.sample(&labels, u8::from(it.mapped));
    }
    let help = "1 for why a port is not to be reached through the gateway.";
    page.family("edgevip_mapping_refusal", Kind::Gauge, help);
    for (service, it) in each() {
        if let Some(code) = &it.code {
            let (vip, port) = parts(it);
            page.sample(&[("service", service), ("vip", &vip), ("port", &port), ("code", code)], 1);
        }
    }
}

fn parts(it: &MappingStatus) -> (String, String) {
    (it.vip.to_string(), format!("{}/{}", it.port, it.protocol))
}

#[cfg(test)]
mod tests {
    use super::super::tests::each_family_is_whole;
    use super::super::{Process, text};
    use crate::model::{LeaseStatus, PoolFault, Status};
    use crate::wire::status::tests::{example, with_mappings};

    use super::*;

    fn page(services: ServicesStatus) -> String {
        let page = text(&Status { services: Some(services), ..example() }, &Process::default());
        each_family_is_whole(&page);
        page
    }

    fn has(page: &str, expected: &[&str]) {
        for line in expected {
            assert!(page.lines().any(|it| it == *line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn ports_on_the_gateway_are_counted_by_service() {
        let services = ServicesStatus { services: vec![with_mappings()], ..Default::default() };
        let expected = [
            r#"edgevip_mapping{service="a/web",vip="10.0.0.5",port="80/TCP"} 1"#,
            r#"edgevip_mapping{service="a/web",vip="10.0.0.5",port="443/TCP"} 0"#,
            r#"edgevip_mapping_refusal{service="a/web",vip="10.0.0.5",port="443/TCP",code="port-taken"} 1"#,
        ];
        has(&page(services), &expected);
    }

    #[test]
    fn a_pool_says_how_much_is_left_and_that_nothing_is() {
        let family =
            |family, total, used| FamilyUse { family, total, used, quarantined: 1, strangers: 0 };
        let pool = |key: &str, fault| PoolUse {
            key: key.into(),
            fault,
            dhcp: Vec::new(),
            families: Vec::new(),
            held: Vec::new(),
        };
        let families = vec![family(IpFamily::V4, 4, 3), family(IpFamily::V6, u64::MAX, 3)];
        let fault =
            PoolFault { key: "cidr-b".into(), value: "x".into(), right: "give a range".into() };
        let pools =
            vec![PoolUse { families, ..pool("cidr-global", None) }, pool("cidr-b", Some(fault))];
        let services = ServicesStatus { pools, known: true, ..Default::default() };
        let expected = [
            "edgevip_services_leads 0",
            "edgevip_services_known 1",
            r#"edgevip_pool_is_readable{pool="cidr-global"} 1"#,
            r#"edgevip_pool_is_readable{pool="cidr-b"} 0"#,
            r#"edgevip_pool_addresses{pool="cidr-global",family="ipv4",state="free"} 0"#,
            r#"edgevip_pool_addresses{pool="cidr-global",family="ipv4",state="used"} 3"#,
            r#"edgevip_pool_addresses{pool="cidr-global",family="ipv4",state="quarantined"} 1"#,
            r#"edgevip_pool_is_exhausted{pool="cidr-global",family="ipv4"} 1"#,
            r#"edgevip_pool_is_exhausted{pool="cidr-global",family="ipv6"} 0"#,
        ];
        has(&page(services), &expected);
    }

    #[test]
    fn services_leases_and_refusals_are_told() {
        let lease = LeaseStatus {
            phase: "bound".into(),
            address: Some([10, 0, 0, 9].into()),
            server: None,
            next_ms: None,
            ends_ms: Some(90_500),
        };
        let leased = ServiceStatus {
            name: "a/leased".into(),
            leases: vec![lease],
            mappings: Vec::new(),
            ..with_mappings()
        };
        let refused = ServiceStatus {
            name: "a/none".into(),
            code: Some("no-pool".into()),
            leases: Vec::new(),
            ..leased.clone()
        };
        let services = vec![leased, refused];
        let expected = [
            r#"edgevip_services{state="served"} 1"#,
            r#"edgevip_services{state="refused"} 1"#,
            r#"edgevip_service_refusal{service="a/none",code="no-pool"} 1"#,
            r#"edgevip_dhcp_lease{service="a/leased",phase="bound"} 1"#,
            r#"edgevip_dhcp_lease_ends_seconds{service="a/leased",address="10.0.0.9"} 90.5"#,
        ];
        has(&page(ServicesStatus { services, ..Default::default() }), &expected);
    }
}
