//! Address pools as `edgevip pools` shows them: for people and for machines.

use super::status::{one_line, span, table};
use crate::model::{AddressUse, FamilyUse, HeldAddress, ObjectName, PoolUse, family_name};

/// The pools for people.
pub fn text(pools: &[PoolUse]) -> String {
    let mut out = String::new();
    if pools.is_empty() {
        return "there are no pools: the ConfigMap has neither cidr-… nor range-…\n".into();
    }
    let head = ["POOL", "FAMILY", "TOTAL", "USED", "FREE", "QUARANTINED", "STRANGERS"];
    table(&mut out, head.map(str::to_owned).into(), pools.iter().flat_map(families).collect());
    let held: Vec<_> =
        pools.iter().flat_map(|pool| pool.held.iter().map(move |it| row(pool, it))).collect();
    if !held.is_empty() {
        out.push('\n');
        table(&mut out, ["ADDRESS", "POOL", "HELD BY"].map(str::to_owned).into(), held);
    }
    let faults: Vec<_> = pools.iter().filter_map(|it| it.fault.as_ref()).collect();
    if !faults.is_empty() {
        out.push('\n');
    }
    for fault in faults {
        out += &format!("{}\n", one_line(&fault.to_string()));
    }
    out
}

/// The pools for machines: one line, durations in milliseconds.
pub fn json(pools: &[PoolUse]) -> String {
    serde_json::to_string(pools).expect("plain values with string keys")
}

/// Reads what [`json`] writes.
pub fn parse(text: &str) -> Result<Vec<PoolUse>, String> {
    serde_json::from_slice(text.as_bytes()).map_err(|it| format!("not the pools of edgevip: {it}"))
}

fn families(pool: &PoolUse) -> Vec<Vec<String>> {
    let line = |family: &str, rest: &[String]| {
        [pool.key.clone(), family.to_owned()].iter().chain(rest).cloned().collect()
    };
    let leased = pool.dhcp.iter().map(|it| line(family_name(*it), &["by DHCP".to_owned()]));
    let counted = pool.families.iter().map(|it| {
        let FamilyUse { total, used, quarantined, strangers, .. } = *it;
        let counts = [total, used, it.free(), quarantined, strangers];
        line(family_name(it.family), &counts.map(count))
    });
    let broken = pool.fault.iter().map(|_| line("-", &["unreadable".to_owned()]));
    leased.chain(counted).chain(broken).collect()
}

/// The largest number stands for more.
fn count(number: u64) -> String {
    match number {
        u64::MAX => "over 10^19".into(),
        it => it.to_string(),
    }
}

fn row(pool: &PoolUse, held: &HeldAddress) -> Vec<String> {
    let by = match &held.by {
        AddressUse::Quarantined { last, left_ms } => {
            format!("nobody: {last} had it, free for others in {}", span(*left_ms))
        }
        AddressUse::Reserved(whose) => whose.join(", "),
        AddressUse::Services(names) => {
            names.iter().map(ObjectName::to_string).collect::<Vec<_>>().join(", ")
        }
        AddressUse::Stranger { mac, left_ms } => {
            let who = mac.map_or("another host".into(), |it| format!("the host with MAC {it}"));
            format!("{who}, tried again in {}", span(*left_ms))
        }
    };
    vec![held.address.to_string(), pool.key.clone(), by]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IpFamily, Mac, PoolFault};

    #[test]
    fn the_text_says_who_has_what() {
        let expected = "\
POOL         FAMILY  TOTAL       USED  FREE        QUARANTINED  STRANGERS
cidr-global  IPv4    254         3     249         1            1
cidr-global  IPv6    over 10^19  1     over 10^19  0            0
cidr-home    IPv4    by DHCP
range-test   -       unreadable

ADDRESS   POOL         HELD BY
10.0.0.1  cidr-global  node n1
10.0.0.2  cidr-global  shop/dns, shop/web
10.0.0.3  cidr-global  nobody: shop/old had it, free for others in 42.0 s
10.0.0.4  cidr-global  the host with MAC 02:00:00:00:00:07, tried again in 4 min 10 s
10.0.0.5  cidr-global  another host, tried again in 1.0 s
fd00::1   cidr-global  shop/web

range-test: \"10.0.0.1\" is no range
";
        assert_eq!(text(&example()), expected);
        assert!(text(&[]).starts_with("there are no pools"));
    }

    #[test]
    fn json_reads_back_as_it_was_written() {
        let line = json(&example());
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(parse(&line), Ok(example()));
        assert!(parse("{}").unwrap_err().starts_with("not the pools of edgevip: "));
    }

    fn example() -> Vec<PoolUse> {
        let name = |name: &str| ObjectName::new("shop", name);
        let held = |address: &str, by| HeldAddress { address: address.parse().unwrap(), by };
        let empty = |key: &str| PoolUse {
            key: key.into(),
            fault: None,
            dhcp: vec![],
            families: vec![],
            held: vec![],
        };
        let v4 =
            FamilyUse { family: IpFamily::V4, total: 254, used: 3, quarantined: 1, strangers: 1 };
        let v6 = FamilyUse {
            family: IpFamily::V6,
            total: u64::MAX,
            used: 1,
            quarantined: 0,
            strangers: 0,
        };
        let mac = Some(Mac([2, 0, 0, 0, 0, 7]));
        let fault = PoolFault {
            key: "range-test".into(),
            value: "10.0.0.1".into(),
            right: "is no range".into(),
        };
        let global = PoolUse {
            families: vec![v4, v6],
            held: vec![
                held("10.0.0.1", AddressUse::Reserved(vec!["node n1".into()])),
                held("10.0.0.2", AddressUse::Services(vec![name("dns"), name("web")])),
                held("10.0.0.3", AddressUse::Quarantined { last: name("old"), left_ms: 42_000 }),
                held("10.0.0.4", AddressUse::Stranger { mac, left_ms: 250_000 }),
                held("10.0.0.5", AddressUse::Stranger { mac: None, left_ms: 1_000 }),
                held("fd00::1", AddressUse::Services(vec![name("web")])),
            ],
            ..empty("cidr-global")
        };
        vec![
            global,
            PoolUse { dhcp: vec![IpFamily::V4], ..empty("cidr-home") },
            PoolUse { fault: Some(fault), ..empty("range-test") },
        ]
    }
}
