use super::*;
use crate::engine::pools::ADDRESSES;
use crate::engine::services::tests::service;

fn rule(text: &str) -> ClassRule {
    let (name, flags) = text.split_once(' ').unwrap_or((text, ""));
    ClassRule {
        name: name.to_owned(),
        only: flags.contains("only"),
        legacy: !flags.contains("strict"),
    }
}

#[test]
fn a_class_is_ours_as_the_two_rules_say() {
    // Rule; class of the Service, - for none; whether it is ours.
    let table = "
        vip         -    yes
        vip         vip  yes
        vip         x    no
        vip only    -    no
        vip only    vip  yes
        vip strict  -    no
        vip strict  vip  yes
        vip strict  x    no
    ";
    for line in table.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let words: Vec<_> = line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
        let [name, class, ours] = words[..] else { panic!("{line}") };
        let class = Some(class).filter(|it| *it != "-");
        assert_eq!(rule(name).takes(class), ours == "yes", "{line}");
    }
    let nameless = ClassRule { name: String::new(), only: false, legacy: false };
    assert!(nameless.takes(None) && !nameless.takes(Some("x")));
}

#[test]
fn the_first_source_that_has_addresses_wins() {
    // Annotation; field; status; what comes of it.
    let table = [
        ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"),
        (" 10.0.0.1 , ,fd00::1,", "", "", "10.0.0.1,fd00::1"),
        ("", "10.0.0.2", "", "10.0.0.2"),
        ("", "10.0.0.2", "10.0.0.3", "10.0.0.2"),
        ("", "10.0.0.2", "10.0.0.2,fd00::2", "10.0.0.2,fd00::2"),
        ("", "10.0.0.2", "fd00::2", "fd00::2"),
        ("", "", "10.0.0.3", "10.0.0.3"),
        ("FD00:0::1", "", "", "fd00::1"),
        ("", "", "", ""),
    ];
    for (annotation, field, status, expected) in table {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), annotation.into());
        it.load_balancer_ip = Some(field.to_owned()).filter(|it| !it.is_empty());
        it.ingress = status
            .split(',')
            .filter(|it| !it.is_empty())
            .map(|ip| crate::model::Ingress { ip: ip.parse().ok(), ..Default::default() })
            .collect();
        let found = match verdict(&it, &rule("vip")) {
            Verdict::Wanted(it) => it.addresses,
            Verdict::Addressless => Vec::new(),
            other => panic!("{other:?}"),
        };
        let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
        assert_eq!(found.join(","), expected, "{annotation:?} {field:?} {status:?}");
    }
}

#[test]
fn what_cannot_be_understood_names_the_setting_the_value_and_what_would_be_right() {
    let table = [
        ("loadbalancerIPs", "10.0.0.1/24", "an address without a prefix length"),
        ("loadbalancerIPs", "10.0.0.999", "an IP address, or a DNS name"),
        ("loadbalancerIPs", "a..example", "an IP address, or a DNS name"),
        ("ddns", "perhaps", "true or false"),
        ("loadbalancerIPs", "127.0.0.1", "carry for others"),
        ("loadbalancerIPs", "255.255.255.255", "carry for others"),
        ("loadbalancerIPs", "ff02::1", "carry for others"),
        ("serviceInterface", "a/b", "the name of a link, or auto"),
        ("serviceVLAN", "eth0", "a link and a tag from 1 to 4094"),
        ("serviceVLAN", "eth0.0", "a link and a tag from 1 to 4094"),
        ("serviceVLAN", "eth0.4095", "a link and a tag from 1 to 4094"),
        ("serviceVLAN", "eth0.1.2", "a link and a tag from 1 to 4094"),
        ("serviceVLAN", "eth0.+7", "a link and a tag from 1 to 4094"),
        ("serviceVLAN", "enp130s0f0np0.70", "15 characters"),
    ];
    for (key, value, right) in table {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), "10.0.0.1".into());
        it.annotations.insert(format!("{PEER}{key}"), value.into());
        let Verdict::Refused(refusal) = verdict(&it, &rule("vip")) else {
            panic!("{key}={value} is taken")
        };
        let text = refusal.to_string();
        assert!([key, value, right].iter().all(|it| text.contains(it)), "{text}");
    }
}

#[test]
fn a_vlan_is_a_link_that_is_made_and_goes_before_the_link_that_is_named() {
    let mut it = service("a/b");
    it.annotations.insert(ADDRESSES.into(), "10.0.0.1".into());
    it.annotations.insert(format!("{PEER}serviceVLAN"), "eth0.100".into());
    it.annotations.insert(format!("{PEER}serviceInterface"), "eth1".into());
    let Verdict::Wanted(wants) = verdict(&it, &rule("vip")) else { panic!() };
    let Some(LinkChoice::Made(made)) = wants.link.as_deref() else { panic!("{wants:?}") };
    assert_eq!(made.name, LinkName("eth0.100".into()));
    assert_eq!(made.parent, LinkChoice::Named(LinkName("eth0".into())));
    assert_eq!(made.make, Make::Vlan { tag: 100 });
}

#[test]
fn what_is_to_be_leased_is_asked_for_by_any_source() {
    // Annotation; field; status; addresses beside the lease, or `-` for no lease.
    let table = [
        ("0.0.0.0", "", "", ""),
        ("0.0.0.0", "10.0.0.2", "10.0.0.3", ""),
        ("fd00::1,0.0.0.0", "", "", "fd00::1"),
        ("::", "", "", ""),
        ("10.0.0.1,::", "", "", "10.0.0.1"),
        ("0.0.0.0,::", "", "", ""),
        ("", "::", "fd00::3", ""),
        ("", "0.0.0.0", "", ""),
        ("", "0.0.0.0", "10.0.0.3", ""),
        ("", "0.0.0.0", "fd00::3", ""),
        ("", "", "10.0.0.3", "-"),
    ];
    for (annotation, field, status, beside) in table {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), annotation.into());
        it.load_balancer_ip = Some(field.to_owned()).filter(|it| !it.is_empty());
        let ip = status.parse().ok();
        it.ingress = vec![crate::model::Ingress { ip, ..Default::default() }];
        let Verdict::Wanted(wants) = verdict(&it, &rule("vip")) else { panic!("{annotation}") };
        let found: Vec<_> = wants.addresses.iter().map(IpAddr::to_string).collect();
        let found = wants.lease.map_or("-".to_owned(), |_| found.join(","));
        assert_eq!(found, beside, "{annotation:?} {field:?} {status:?}");
    }
}

#[test]
fn what_a_service_says_of_its_lease_is_understood_or_refused_by_name() {
    let with = |key: &str, value: &str| {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), "0.0.0.0".into());
        it.annotations.insert(format!("{PEER}{key}"), value.into());
        verdict(&it, &rule("vip"))
    };
    let good = |key: &str, value: &str| match with(key, value) {
        Verdict::Wanted(Wants { lease: Some(it), .. }) => it,
        other => panic!("{other:?}"),
    };
    assert_eq!(good("loadbalancerHostname", "web.example.org").host_name, "web.example.org");
    assert_eq!(good("hwaddr", "02-00-00-00-00-0A").mac, Some(Mac([2, 0, 0, 0, 0, 10])));
    let requested = |text| good("requestedIP", text).requested;
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(requested("10.0.0.9"), [ip("10.0.0.9")]);
    assert_eq!(requested("fd00::9, 10.0.0.9"), [ip("fd00::9"), ip("10.0.0.9")]);
    assert!(requested("").is_empty());
    let table = [
        ("loadbalancerHostname", "we b"),
        ("hwaddr", "02:00:00:00:00"),
        ("hwaddr", "ff:ff:ff:ff:ff:ff"),
        ("requestedIP", "10.0.0.999"),
        ("requestedIP", "10.0.0.1,10.0.0.2,fd00::1"),
    ];
    for (key, value) in table {
        let Verdict::Refused(refusal) = with(key, value) else { panic!("{key}={value} is taken") };
        assert!(refusal.to_string().contains(&format!("{key}={value}")), "{refusal}");
    }
}

#[test]
fn what_is_no_longer_ours_is_let_go_of() {
    let changes: [fn(&mut Service); 4] = [
        |it| it.balanced = false,
        |it| it.deleting = true,
        |it| it.class = Some("another".into()),
        |it| drop(it.annotations.insert(format!("{PEER}ignore"), "true".into())),
    ];
    for change in changes {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), "10.0.0.1".into());
        assert!(matches!(verdict(&it, &rule("vip")), Verdict::Wanted(_)));
        change(&mut it);
        assert_eq!(verdict(&it, &rule("vip")), Verdict::Others);
    }
}

#[test]
fn a_dns_name_is_asked_for_by_the_families_of_its_service() {
    use IpFamily::{V4, V6};
    let named = |families: Vec<IpFamily>, policy| {
        let mut it = service("a/b");
        it.annotations
            .insert(ADDRESSES.into(), "10.0.0.1, Web.Example.org.,web.example.org".into());
        (it.families, it.family_policy) = (families, policy);
        let Verdict::Wanted(wants) = verdict(&it, &rule("vip")) else { panic!() };
        assert_eq!(wants.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let [Named { name, families, all }] = &wants.names[..] else { panic!("{wants:?}") };
        assert_eq!(name, "web.example.org");
        (families.clone(), *all)
    };
    assert_eq!(named(vec![V4], FamilyPolicy::SingleStack), (vec![V4], false));
    assert_eq!(named(vec![V6, V4], FamilyPolicy::PreferDualStack), (vec![V6, V4], false));
    assert_eq!(named(vec![V4, V6], FamilyPolicy::RequireDualStack), (vec![V4, V6], true));
}

#[test]
fn a_name_that_is_registered_by_a_dhcp_server_is_leased() {
    let with = |addresses: &str| {
        let mut it = service("a/b");
        it.annotations.insert(ADDRESSES.into(), addresses.into());
        it.annotations.insert(format!("{PEER}ddns"), "true".into());
        it.families = vec![IpFamily::V4, IpFamily::V6];
        verdict(&it, &rule("vip"))
    };
    let Verdict::Wanted(wants) = with("web.example.org") else { panic!() };
    assert!(wants.names.is_empty() && wants.addresses.is_empty());
    let lease = wants.lease.unwrap();
    assert_eq!((lease.host_name.as_str(), lease.client.as_str()), ("web.example.org", "web"));
    assert_eq!(lease.families, [IpFamily::V4, IpFamily::V6]);
    // Without a name there is nothing to register.
    let Verdict::Wanted(wants) = with("10.0.0.1") else { panic!() };
    assert_eq!(wants.lease, None);
    let Verdict::Refused(refusal) = with("a.example,b.example") else { panic!() };
    assert_eq!(refusal.to_string(), "ddns=true: one name in loadbalancerIPs");
}
