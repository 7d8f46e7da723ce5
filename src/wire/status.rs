//! What an operator can ask a running process: for people and for machines.

mod quorum;

use std::fmt::Write;
use std::time::Duration;

pub use quorum::{members, members_json};

use crate::model::{
    LeaseStatus, LinkStatus, MappingStatus, Role, ServiceStatus, ServicesStatus, Status, VipState,
    VipStatus,
};

/// The status for people.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n", election(status));
    if !status.vips.is_empty() || status.services.is_none() {
        vips(&mut out, status);
    }
    if let Some(it) = &status.services {
        services(&mut out, it);
    }
    let mut facts = Vec::new();
    if let Some(it) = &status.quorum {
        out.push('\n');
        quorum::list(&mut out, it);
        facts.extend(quorum::facts(it));
    }
    facts.extend([
        ("IPv4 fence", fence(&status.fences.v4)),
        ("IPv6 fence", fence(&status.fences.v6)),
    ]);
    if status.quorum.as_ref().is_none_or(|it| it.record.is_some()) {
        facts.push(("API server", api(status)));
    }
    facts.push(("terms", status.terms.to_string()));
    if status.quorum.as_ref().is_none_or(|it| it.record.is_some()) {
        let candidates = status.candidates.map_or("unknown".into(), |it| it.to_string());
        facts.push(("candidates", candidates));
    }
    facts.push(("noticed", noticed(status)));
    out.push('\n');
    for (name, fact) in facts.into_iter().filter(|(_, fact)| !fact.is_empty()) {
        let _ = writeln!(out, "{name:<10}  {}", one_line(&fact));
    }
    out
}

/// The status for machines: one line, durations in milliseconds.
pub fn json(status: &Status) -> String {
    serde_json::to_string(status).expect("plain values with string keys")
}

/// The JSON of a status as it came, with what its host has beside.
pub fn beside(answer: &str, beside: &[String]) -> String {
    match serde_json::from_slice(answer.as_bytes()) {
        Ok(serde_json::Value::Object(mut entries)) if !beside.is_empty() => {
            entries.insert("beside".into(), beside.into());
            serde_json::Value::Object(entries).to_string()
        }
        Ok(_) | Err(_) => answer.to_owned(),
    }
}

/// Reads what [`json`] writes.
pub fn parse(text: &str) -> Result<Status, String> {
    serde_json::from_slice(text.as_bytes()).map_err(|it| format!("not a status of edgevip: {it}"))
}

fn election(status: &Status) -> String {
    if let Some(it) = &status.quorum {
        return quorum::headline(status.role, it);
    }
    let Status { node, lease, .. } = status;
    let held =
        status.holder.as_ref().map_or("nobody holds it".into(), |it| format!("{it} holds it"));
    match (status.role, status.until_ms) {
        (Role::Follower, _) => format!("{node} follows {lease}: {held}"),
        (Role::Leader, Some(left)) => format!("{node} leads {lease} for another {}", span(left)),
        (Role::Leader, None) => format!("{node} leads {lease}"),
        (Role::Standby, _) => format!("{node} does not stand for {lease}: {held}"),
        (Role::Stopping, _) => format!("{node} is stopping; {lease}: {held}"),
    }
}

fn vips(out: &mut String, status: &Status) {
    let Some(quorum) = &status.quorum else {
        let head = ["VIP", "STATE", "LINK", "WHY"].map(str::to_owned);
        let row = |it: &VipStatus| begin(it).into_iter().chain([join(refused(it), it)]).collect();
        return table(out, head.into(), status.vips.iter().map(row).collect());
    };
    let head = ["VIP", "STATE", "LINK", "HOLDER", "EPOCH", "GOOD FOR", "WHY"].map(str::to_owned);
    let row = |it: &VipStatus| {
        let place = quorum.vips.iter().find(|place| place.vip == it.vip);
        // Who carries it stands in a column of its own.
        let refused = refused(it).filter(|_| it.code.as_deref() != Some("not-leader"));
        let why = place.map(|it| it.why.clone()).filter(|it| !it.is_empty());
        let why = join(refused.into_iter().chain(why), it);
        begin(it).into_iter().chain(quorum::place(place)).chain([why]).collect()
    };
    table(out, head.into(), status.vips.iter().map(row).collect());
}

fn services(out: &mut String, it: &ServicesStatus) {
    let held = match (&it.holder, it.lease.as_str()) {
        (_, "") if it.each => "each has a Lease of its own".to_owned(),
        (_, "") => String::new(),
        (Some(holder), lease) => format!("{holder} holds {lease}"),
        (None, lease) => format!("nobody holds {lease}"),
    };
    let reading = (!it.known).then(|| "not all of them are read yet".to_owned());
    let words = [Some(held), reading, it.fault.clone()];
    let words: Vec<_> = words.into_iter().flatten().filter(|it| !it.is_empty()).collect();
    let _ = writeln!(out, "\nServices: {}", one_line(&words.join("; ")));
    let head = match it.each {
        true => &["SERVICE", "ADDRESSES", "HOLDER", "WHY"][..],
        false => &["SERVICE", "ADDRESSES", "WHY"],
    };
    let each = it.each;
    let row = |it: &ServiceStatus| {
        let addresses: Vec<_> = it.addresses.iter().map(ToString::to_string).collect();
        let why = it.code.iter().chain(&it.why).cloned().collect::<Vec<_>>().join(": ");
        let why = [why].into_iter().chain(it.leases.iter().map(lease));
        let why: Vec<_> = why.filter(|it| !it.is_empty()).collect();
        let holder = it.holder.as_ref().map_or("-".to_owned(), ToString::to_string);
        let row = [Some(it.name.clone()), Some(addresses.join(", ")), each.then_some(holder)];
        row.into_iter().flatten().chain([why.join("; ")]).collect()
    };
    if !it.services.is_empty() {
        let head = head.iter().map(|it| (*it).to_owned()).collect();
        table(out, head, it.services.iter().map(row).collect());
    }
    mappings(out, it);
}

fn mappings(out: &mut String, it: &ServicesStatus) {
    let head = ["ON THE GATEWAY", "PORT", "OF", "OUTSIDE", "BY", "FOR", "WHY"].map(str::to_owned);
    let row = |of: &ServiceStatus, it: &MappingStatus| {
        let left = match (it.mapped, it.left_ms) {
            (false, _) => "-".to_owned(),
            (true, None) => "good".to_owned(),
            (true, Some(left)) => span(left),
        };
        let or_none = |it: Option<String>| it.unwrap_or_else(|| "-".to_owned());
        let outside = or_none(it.external.map(|it| it.to_string()));
        let port = format!("{}/{}", it.port, it.protocol);
        let why = it.code.iter().chain(&it.why).cloned().collect::<Vec<_>>().join(": ");
        vec![of.name.clone(), port, it.vip.to_string(), outside, or_none(it.way.clone()), left, why]
    };
    let of = |of| move |it| row(of, it);
    let rows: Vec<_> = it.services.iter().flat_map(|it| it.mappings.iter().map(of(it))).collect();
    if !rows.is_empty() {
        out.push('\n');
        table(out, head.into(), rows);
    }
}

fn lease(it: &LeaseStatus) -> String {
    let server = it.server.map(|it| format!(" by {it}"));
    let next = it.next_ms.map(|it| format!(", asks in {}", span(it)));
    let ends = it.ends_ms.map(|it| format!(", ends in {}", span(it)));
    let parts = [server, next, ends].into_iter().flatten().collect::<String>();
    format!("DHCP {}{parts}", it.phase)
}

fn begin(it: &VipStatus) -> [String; 3] {
    let state = match it.state {
        VipState::Absent => "absent",
        VipState::Silent => "silent",
        VipState::Answering => "answering",
    };
    let link = it.link.as_ref().map_or("-".into(), link);
    [format!("{}/{}", it.vip, it.length), state.into(), link]
}

fn link(it: &LinkStatus) -> String {
    match (it.up, it.carrier) {
        (true, true) => it.name.to_string(),
        (true, false) => format!("{} (no carrier)", it.name),
        (false, _) => format!("{} (down)", it.name),
    }
}

fn refused(it: &VipStatus) -> Option<String> {
    let refusal = it.refusal.as_ref();
    let code = it.code.as_deref().or(refusal.map(|it| it.code()));
    let words = it.why.clone().or(refusal.map(|it| it.to_string()));
    match (code, words) {
        (Some(code), Some(words)) => Some(format!("{code}: {words}")),
        (Some(code), None) => Some(code.into()),
        (None, words) => words,
    }
}

fn join(whys: impl IntoIterator<Item = String>, it: &VipStatus) -> String {
    let claimed = it.conflict.map(|mac| format!("last claimed by {mac}"));
    whys.into_iter().chain(claimed).collect::<Vec<_>>().join("; ")
}

/// Columns as wide as what is in them; the last ends where it ends.
pub(super) fn table(out: &mut String, head: Vec<String>, rows: Vec<Vec<String>>) {
    let mut widths = vec![0; head.len()];
    let lines = || [&head].into_iter().chain(&rows);
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines() {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{:<width$}", one_line(cell)));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn fence(state: &Result<(), String>) -> String {
    match state {
        Ok(()) => "on".into(),
        Err(why) => format!("off: {why}"),
    }
}

fn api(status: &Status) -> String {
    let answered = match status.api.answered_ms_ago {
        Some(ago) => format!("answered {} ago", span(ago)),
        None => "never answered".into(),
    };
    match (&status.api.fault, status.api.watching) {
        (Some(fault), _) => format!("{answered}; failing: {fault}"),
        (None, _) if status.quorum.is_some() => answered,
        (None, true) => format!("{answered}, watching the Lease"),
        (None, false) => format!("{answered}, not watching the Lease"),
    }
}

fn noticed(status: &Status) -> String {
    [
        (status.conflicts, "claims of our VIPs by strangers"),
        (status.readded, "addresses that vanished and were put back"),
        (status.fence_rebuilds, "times the fence was gone and was built again"),
        (status.fence_late, "times the kernel opened the fence too late"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect::<Vec<_>>()
    .join(", ")
}

pub(super) fn span(millis: u64) -> String {
    let span = Duration::from_millis(millis);
    match span.as_secs() {
        0..60 => format!("{}.{} s", span.as_secs(), span.subsec_millis() / 100),
        it @ 60..3_600 => format!("{} min {} s", it / 60, it % 60),
        it => format!("{} h {} min", it / 3_600, it / 60 % 60),
    }
}

/// What others said may hold line breaks, which would make rows out of words.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::quorum::tests::example as example_of_quorum;
    use super::*;
    use crate::model::{ApiStatus, Fences, LinkName, Mac, NodeName, Refusal, Vip};

    #[test]
    fn the_text_says_what_is_so_and_why() {
        let expected = "\
node-1 leads kube-system/plndr-cp-lock for another 8.4 s

VIP           STATE      LINK               WHY
10.0.0.42/32  answering  eth0               last claimed by 02:00:00:00:00:01
fd00::42/128  absent     eth1 (no carrier)  no-carrier: eth1 has no carrier

IPv4 fence  on
IPv6 fence  off: no nftables in this kernel
API server  answered 0.2 s ago, watching the Lease
terms       2
candidates  3
noticed     2 claims of our VIPs by strangers
";
        assert_eq!(text(&example()), expected);
    }

    #[test]
    fn ports_on_the_gateway_stand_below_their_services() {
        let services = ServicesStatus {
            services: vec![with_mappings()],
            known: true,
            watching: true,
            ..ServicesStatus::default()
        };
        let mut out = String::new();
        mappings(&mut out, &services);
        let expected = "
ON THE GATEWAY  PORT     OF        OUTSIDE       BY   FOR         WHY
a/web           80/TCP   10.0.0.5  198.51.100.7  PCP  59 min 1 s
a/web           443/TCP  10.0.0.5  -             -    -           port-taken: somebody has it
";
        assert_eq!(out, expected);
    }

    pub(crate) fn with_mappings() -> ServiceStatus {
        let mapping = |port, mapped: bool| MappingStatus {
            vip: Vip("10.0.0.5".parse().unwrap()),
            port,
            protocol: "TCP".into(),
            mapped,
            way: mapped.then(|| "PCP".into()),
            external: mapped.then(|| "198.51.100.7".parse().unwrap()),
            left_ms: mapped.then_some(3_541_000),
            code: (!mapped).then(|| "port-taken".into()),
            why: (!mapped).then(|| "somebody has it".into()),
        };
        ServiceStatus {
            name: "a/web".into(),
            addresses: Vec::new(),
            holder: None,
            code: None,
            why: None,
            mappings: vec![mapping(80, true), mapping(443, false)],
            leases: Vec::new(),
        }
    }

    #[test]
    fn each_role_names_the_holder_or_the_end() {
        let table = [
            (Role::Leader, None, Some(83_000), "n leads l for another 1 min 23 s"),
            (Role::Leader, None, None, "n leads l"),
            (Role::Follower, Some("m"), None, "n follows l: m holds it"),
            (Role::Follower, None, None, "n follows l: nobody holds it"),
            (Role::Standby, Some("m"), None, "n does not stand for l: m holds it"),
            (Role::Stopping, None, Some(1), "n is stopping; l: nobody holds it"),
        ];
        for (role, holder, until_ms, words) in table {
            let node = NodeName("n".into());
            let holder = holder.map(|it| NodeName(it.into()));
            let status = Status { node, holder, role, until_ms, lease: "l".into(), ..example() };
            assert_eq!(election(&status), words);
        }
    }

    #[test]
    fn a_fault_with_line_breaks_stays_on_its_line() {
        let api = ApiStatus { fault: Some("x\nVIP gone".into()), ..ApiStatus::default() };
        let text = text(&Status { api, ..example() });
        assert!(text.contains("API server  never answered; failing: x VIP gone\n"), "{text}");
    }

    #[test]
    fn json_reads_back_as_it_was_written() {
        let line = json(&example());
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(parse(&line), Ok(example()));
        assert!(parse("{}").unwrap_err().starts_with("not a status of edgevip: "));
    }

    pub(crate) fn example() -> Status {
        let link =
            |name: &str, carrier| LinkStatus { name: LinkName(name.into()), up: true, carrier };
        let refusal = Refusal::NoCarrier { link: LinkName("eth1".into()) };
        let answering = VipStatus {
            vip: Vip("10.0.0.42".parse().unwrap()),
            state: VipState::Answering,
            link: Some(link("eth0", true)),
            refusal: None,
            code: None,
            why: None,
            conflict: Some(Mac([2, 0, 0, 0, 0, 1])),
            length: 32,
        };
        let absent = VipStatus {
            vip: Vip("fd00::42".parse().unwrap()),
            state: VipState::Absent,
            link: Some(link("eth1", false)),
            code: Some(refusal.code().into()),
            why: Some(refusal.to_string()),
            refusal: Some(refusal),
            conflict: None,
            length: 128,
        };
        Status {
            node: NodeName("node-1".into()),
            lease: "kube-system/plndr-cp-lock".into(),
            role: Role::Leader,
            holder: Some(NodeName("node-1".into())),
            until_ms: Some(8_450),
            terms: 2,
            vips: vec![answering, absent],
            fences: Fences { v4: Ok(()), v6: Err("no nftables in this kernel".into()) },
            api: ApiStatus { answered_ms_ago: Some(200), fault: None, watching: true },
            candidates: Some(3),
            conflicts: 2,
            fence_rebuilds: 0,
            readded: 0,
            fence_late: 0,
            quorum: None,
            services: None,
        }
    }
}
