use super::*;
use crate::model::ServicePatch;

/// A Service as the table writes it, words apart:
/// `ann=`, `mark=`, `field=`, `link=`, `status=`, `label`, `ipam`, `cleanup`, `class=`,
/// `deleting`, `local`, `plain` (no load balancer), and what [`request`] knows.
fn written(words: &str) -> Service {
    let mut it = service("test/svc");
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let text = value.to_owned();
        match key {
            "ann" => drop(it.annotations.insert(ADDRESSES.into(), text)),
            "mark" => drop(it.annotations.insert(ALLOCATED.into(), text)),
            "link" => drop(it.annotations.insert(INTERFACE.into(), text)),
            "field" => it.load_balancer_ip = Some(text),
            "status" => it.ingress = vec![ingress(value)],
            "label" => drop(it.labels.insert("implementation".into(), "kube-vip".into())),
            "ipam" => drop(it.labels.insert("ipam-address".into(), "10.0.0.1".into())),
            "cleanup" => it.finalizers = vec!["mine".into(), CLEANUP.into()],
            "class" => it.class = Some(text),
            "deleting" => it.deleting = true,
            "plain" => it.balanced = false,
            "local" => it.local = true,
            "single" => it.family_policy = FamilyPolicy::SingleStack,
            "prefer" => it.family_policy = FamilyPolicy::PreferDualStack,
            "require" => it.family_policy = FamilyPolicy::RequireDualStack,
            "v4" | "v6" | "v4,v6" | "v6,v4" => it.families = families(key),
            _ => it.ports.push(port(key)),
        }
    }
    it
}

/// A patch in the words of [`written`]; what is removed has a minus before it.
fn shown(patch: &ServicePatch) -> String {
    let names = [(ADDRESSES, "ann"), (ALLOCATED, "mark"), (INTERFACE, "link")];
    let labels = [("implementation", "label"), ("ipam-address", "ipam")];
    let mut words = Vec::new();
    for (key, name) in names {
        match patch.annotations.get(key) {
            Some(Some(value)) => words.push(format!("{name}={value}")),
            Some(None) => words.push(format!("-{name}")),
            None => (),
        }
    }
    words.extend(patch.load_balancer_ip.iter().map(|it| format!("field={it}")));
    for (key, name) in labels {
        match patch.labels.get(key) {
            Some(Some(value)) => words.push(format!("{name}={value}").replace("=kube-vip", "")),
            Some(None) => words.push(format!("-{name}")),
            None => (),
        }
    }
    words.extend(patch.finalizers.iter().map(|it| format!("finalizers={}", it.join(","))));
    words.join(" ")
}

/// What the API server makes of a patch.
fn patched(service: &Service, patch: &ServicePatch) -> Service {
    let mut it = service.clone();
    for (map, changes) in
        [(&mut it.annotations, &patch.annotations), (&mut it.labels, &patch.labels)]
    {
        for (key, value) in changes {
            match value {
                Some(value) => drop(map.insert(key.clone(), value.clone())),
                None => drop(map.remove(key)),
            }
        }
    }
    it.load_balancer_ip = patch.load_balancer_ip.clone().or(it.load_balancer_ip);
    it.finalizers = patch.finalizers.clone().unwrap_or(it.finalizers);
    it
}

fn rules() -> SyncRules {
    let classes = ["kube-vip.io/kube-vip-class".to_owned()].into();
    SyncRules { classless: true, classes, field: true }
}

/// The decision; and that there is nothing more to write once it is written.
fn decide(bench: &mut Bench, rules: &SyncRules, service: &Service) -> (String, String) {
    bench.book.update(service, bench.now);
    let sync = Sync::decide(rules, &bench.pools, &bench.book, service, bench.now);
    if let Some(grant) = &sync.grant {
        bench.book.grant(&Request::of(service, bench.now), grant);
    }
    let after = patched(service, &sync.patch);
    bench.book.update(&after, bench.now);
    let again = Sync::decide(rules, &bench.pools, &bench.book, &after, bench.now);
    let copies = sync.grant.is_none() && sync.patch.annotations.contains_key(ADDRESSES);
    assert!(copies || again.patch.is_empty(), "{:?}, then {:?}", sync.patch, again.patch);
    assert_eq!(again.refusal, sync.refusal);
    let refusal = sync.refusal.map_or(String::new(), |it| it.code().to_owned());
    (shown(&sync.patch), refusal)
}

fn check(map: &str, table: &str) {
    for [before, patch, refusal] in rows(table) {
        let mut bench = Bench::new(map);
        let decided = decide(&mut bench, &rules(), &written(before));
        assert_eq!(decided, (patch.to_owned(), refusal.to_owned()), "{map}: {before}");
    }
}

#[test]
fn peer_sync_with_a_mark_of_our_own() {
    let all = |it: &str| {
        let first = it.split(',').next().unwrap();
        format!("ann={it} mark={it} field={first} label")
    };
    let pool = "cidr-global: 192.168.1.1/24";
    check(pool, &format!("| {} |", all("192.168.1.1")));
    check(pool, "ann=10.1.1.1 | label |");
    check(pool, "ann=10.1.1.1 label | |");
    check(pool, "ann=10.1.1.1 field=10.1.1.1 label | |");
    check("cidr-global: fe80::10/126", &format!("| {} |", all("fe80::10")));
    check(
        "cidr-global: 10.120.120.1/24,fe80::10/126",
        &format!("require v6,v4 | {} |", all("fe80::10,10.120.120.1")),
    );
    let with_link = all("192.168.1.1").replace(" field", " link=eth0 field");
    check(&format!("{pool}\ninterface-global: eth0"), &format!("| {with_link} |"));
    check(&format!("{pool}\ninterface-test: eth0"), &format!("| {with_link} |"));
    check(&format!("{pool}\ninterface-what: eth0"), &format!("| {} |", all("192.168.1.1")));
    check("", "field=192.168.1.1 label ipam | ann=192.168.1.1 -ipam |");
    check("", "| | no-pool");
    check("cidr-test: x", "label | | pool-malformed");
}

/// Defects 1 and 17 of the peer's.
#[test]
fn better_than_the_peer_labels_are_complete_and_a_users_link_stays() {
    let table = "
        field=10.0.0.9                | ann=10.0.0.9 label |
        ann= field=10.0.0.9           | ann=10.0.0.9 label |
        ann=10.0.0.9 field=10.0.0.9   | label              |
        ann=10.0.0.9 ipam             | label -ipam        |
        ann=my.example                | label              |
        field=my.example              | ann=my.example label |
        link=eth7                     | ann=10.0.0.1 mark=10.0.0.1 field=10.0.0.1 label |
        label ipam                    | ann=10.0.0.1 mark=10.0.0.1 link=eth0 field=10.0.0.1 -ipam |
    ";
    check("cidr-global: 10.0.0.0/24\ninterface-global: eth0", table);
}

#[test]
fn who_is_seen_to() {
    let given = "ann=10.0.0.1 mark=10.0.0.1 field=10.0.0.1 label";
    let table = "
        class=kube-vip.io/kube-vip-class | given |
        class=other                      | |
        class=other ann=10.0.0.1         | |
        plain                            | |
        plain field=10.0.0.1             | |
    ";
    check("cidr-global: 10.0.0.0/24", &table.replace("given", given));
    for (classless, expected) in [(true, given), (false, "")] {
        let mut bench = Bench::new("cidr-global: 10.0.0.0/24");
        let rules = SyncRules { classless, ..rules() };
        assert_eq!(decide(&mut bench, &rules, &written("")).0, expected);
    }
    let mut bench = Bench::new("cidr-global: 10.0.0.0/24");
    let rules = SyncRules { field: false, ..rules() };
    assert_eq!(decide(&mut bench, &rules, &written("")).0, "ann=10.0.0.1 mark=10.0.0.1 label");
}

#[test]
fn a_deletion_is_not_held_up_by_the_peers_finalizer() {
    let table = "
        deleting cleanup                   | finalizers=mine |
        deleting cleanup class=kube-vip.io/kube-vip-class | finalizers=mine |
        deleting cleanup plain label       | finalizers=mine |
        deleting cleanup class=other label | finalizers=mine |
        deleting cleanup class=other       | |
        deleting cleanup plain             | |
        deleting ann=10.0.0.1              | |
        cleanup ann=10.0.0.1 label         | |
    ";
    check("cidr-global: 10.0.0.0/24", table);
}

/// Defect 14 of the peer's.
#[test]
fn better_than_the_peer_other_families_get_other_addresses_if_the_old_were_ours() {
    let ours =
        |it: &str| format!("ann={it} mark={it} field={} label", it.split(',').next().unwrap());
    let now = |it: &str| format!("ann={it} mark={it}");
    let (one, two, six) = (ours("10.0.0.7"), ours("10.0.0.7,fd00::7"), ours("fd00::7"));
    let table = format!(
        "
        v4 single {one}        | |
        v4 prefer {one}        | {} |
        v4,v6 require {one}    | {} |
        v6,v4 require {one}    | {} field=fd00::1 |
        v6 single {one}        | {} field=fd00::1 |
        v4 single {two}        | {} |
        v6 single {two}        | {} field=fd00::7 |
        single {two}           | {} |
        single {six}           | |
        v4,v6 prefer {two}     | |
        v6,v4 prefer {two}     | |
        v4,v6 require {two}    | |
        ",
        now("10.0.0.7,fd00::1"),
        now("10.0.0.7,fd00::1"),
        now("fd00::1,10.0.0.7"),
        now("fd00::1"),
        now("10.0.0.7"),
        now("fd00::7"),
        now("10.0.0.7"),
    );
    check("cidr-global: 10.0.0.0/24,fd00::/64", &table);
    check("cidr-global: 10.9.0.0/24,fd99::/64", &format!("v4,v6 require {two} | |"));

    let theirs = "ann=10.0.0.7 field=10.0.0.7 label";
    let table = format!("v6 single {theirs} | |\n v4,v6 require {theirs} mark=10.0.0.8 | -mark |");
    check("cidr-global: 10.0.0.0/24,fd00::/64", &table);
}

#[test]
fn what_cannot_be_had_takes_nothing_away() {
    let one = "ann=10.0.0.7 mark=10.0.0.7 field=10.0.0.7 label";
    let six = "ann=fd00::7 mark=fd00::7 field=fd00::7 label";
    let table = format!(
        "
        v4 single {one}     | |
        v4,v6 prefer {one}  | |
        v4,v6 require {one} | | pool-family-missing
        v6 single {one}     | | pool-family-missing
        v6 single {six}     | |
        v6,v4 prefer {six}  | ann=fd00::7,10.0.0.1 mark=fd00::7,10.0.0.1 |
        "
    );
    check("cidr-global: 10.0.0.0/24", &table);
    check("", &format!("v4,v6 prefer {one} | |\n v6 single {one} | | no-pool"));
    check("cidr-test: oops", &format!("v4 {one} | |\n v6 {one} | | pool-malformed"));
    let full = "range-test: 10.0.0.7-10.0.0.7,fd00::-fd00::";
    let table = format!("v4,v6 prefer {one} | |\n v4,v6 require {one} | | pool-exhausted");
    check(full, &table);
}

#[test]
fn what_others_write_over_ours_is_theirs() {
    let table = "
        ann=10.0.0.50 mark=10.0.0.1 field=10.0.0.1 label  | -mark field=10.0.0.50 |
        ann=my.name mark=10.0.0.1 field=10.0.0.1 label    | -mark |
        ann=10.0.0.50 mark=10.0.0.1 field=10.0.0.9 label  | -mark |
        mark=10.0.0.5 field=10.0.0.5 label                | ann=10.0.0.5 |
        mark=10.0.0.5,fd00::5 field=10.0.0.5 label status=fd00::5 prefer | ann=10.0.0.5,fd00::5 |
        mark=10.0.0.5 field=10.0.0.6 label                | ann=10.0.0.6 |
        mark=10.0.0.5 label status=10.0.0.5               | ann=10.0.0.5 field=10.0.0.5 |
    ";
    check("cidr-global: 10.0.0.0/24,fd00::/64", table);
}

/// Defect 13 of the peer's.
#[test]
fn better_than_the_peer_an_address_that_is_anothers_is_told() {
    let table = "
        ann=10.0.0.1 TCP/80        | label | address-taken
        field=10.0.0.1 TCP/80      | ann=10.0.0.1 label | address-taken
        ann=10.0.0.1 UDP/80        | label |
        ann=10.0.0.1 UDP/80 local  | label |
        ann=10.0.0.1               | label | address-taken
        ann=10.0.0.2 TCP/80        | label | address-taken
        ann=10.0.0.3 TCP/80        | label |
        ann=10.0.0.1 mark=10.0.0.1 field=10.0.0.1 label TCP/80 | | address-taken
    ";
    for [before, patch, refusal] in rows(table) {
        let mut bench = Bench::new("");
        let mut other = written("ann=10.0.0.1 TCP/80");
        other.name = object("web/other");
        bench.book.update(&other, START);
        bench.book.reserve("node n1", ["10.0.0.2".parse().unwrap()]);
        let decided = decide(&mut bench, &rules(), &written(before));
        assert_eq!(decided, (patch.to_owned(), refusal.to_owned()), "{before}");
        let asks = Sync::decide(&rules(), &bench.pools, &bench.book, &written(before), START);
        let said = asks.refusal.map_or(String::new(), |it| it.to_string());
        let by = [
            ("10.0.0.1", "test/svc asks for 10.0.0.1, which web/other has"),
            ("10.0.0.2", "test/svc asks for 10.0.0.2, which node n1 has"),
        ];
        let expected = by.iter().find(|(ip, _)| before.contains(ip) && !refusal.is_empty());
        assert_eq!(said, expected.map_or("", |(_, said)| said));
    }
}
