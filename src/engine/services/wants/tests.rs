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
        ("loadbalancerIPs", "a.example", "DNS names"),
        ("loadbalancerIPs", "0.0.0.0", "DHCP"),
        ("loadbalancerIPs", "127.0.0.1", "carry for others"),
        ("loadbalancerIPs", "255.255.255.255", "carry for others"),
        ("loadbalancerIPs", "ff02::1", "carry for others"),
        ("serviceInterface", "a/b", "the name of a link, or auto"),
        ("serviceVLAN", "eth0.7", "VLAN"),
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
