//! The Prometheus text format, version 0.0.4: kube-vip's names and our own.

use std::fmt::{Display, Write};

use crate::model::{MemberStatus, QuorumStatus, Role, Status, VipState};

mod services;

/// What the text says besides the status: facts about this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process<'a> {
    /// The version of this program.
    pub version: &'a str,
    /// The commit it was built from, where known.
    pub build: &'a str,
    /// Resident memory, where known.
    pub resident_bytes: Option<u64>,
    /// Seconds since 1970 at its start, where known.
    pub started: Option<f64>,
}

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub fn text(status: &Status, process: &Process<'_>) -> String {
    let mut page = Page::default();
    peer_metrics(&mut page, status, process);
    vip_metrics(&mut page, status);
    own_metrics(&mut page, status);
    if let Some(services) = &status.services {
        services::metrics(&mut page, services);
    }
    if let Some(quorum) = &status.quorum {
        quorum_metrics(&mut page, quorum);
    }
    process_metrics(&mut page, process);
    page.text
}

fn peer_metrics(page: &mut Page, status: &Status, process: &Process<'_>) {
    let node = &*status.node.0;
    let lease = status.lease.rsplit('/').next().unwrap_or_default();
    let leads = u8::from(status.role == Role::Leader);
    page.family("kube_vip_is_leader", Kind::Gauge, "1 while this node leads.");
    page.sample(&[("node", node), ("lease_name", lease)], leads);
    let name = "kube_vip_leader_election_transitions_total";
    page.family(name, Kind::Counter, "Times this node became leader.");
    page.sample(&[("lease_name", lease)], status.terms);
    page.family("kube_vip_build_info", Kind::Gauge, "Always 1; the labels tell.");
    page.sample(&[("version", process.version), ("build", process.build), ("node", node)], 1);
}

fn vip_metrics(page: &mut Page, status: &Status) {
    page.family("edgevip_vip_state", Kind::Gauge, "1 for the state that each VIP has here.");
    for it in &status.vips {
        let states = [
            ("absent", VipState::Absent),
            ("silent", VipState::Silent),
            ("answering", VipState::Answering),
        ];
        for (name, state) in states {
            let labels = [("vip", &*it.vip.to_string()), ("state", name)];
            page.sample(&labels, u8::from(it.state == state));
        }
    }
    page.family("edgevip_refusal", Kind::Gauge, "1 for why a VIP is not answered for here.");
    for it in &status.vips {
        if let Some(code) = it.code.as_deref().or(it.refusal.as_ref().map(|it| it.code())) {
            page.sample(&[("vip", &it.vip.to_string()), ("code", code)], 1);
        }
    }
}

fn own_metrics(page: &mut Page, status: &Status) {
    page.family("edgevip_fence_holds", Kind::Gauge, "1 where the kernel's fence guards VIPs.");
    page.sample(&[("family", "ipv4")], u8::from(status.fences.v4.is_ok()));
    page.sample(&[("family", "ipv6")], u8::from(status.fences.v6.is_ok()));
    if status.quorum.as_ref().is_none_or(|it| it.record.is_some()) {
        let up = status.api.fault.is_none() && status.api.answered_ms_ago.is_some();
        page.single("edgevip_api_up", Kind::Gauge, "1 if the API server answers.", u8::from(up));
    }
    let left = status.until_ms.unwrap_or(0) as f64 / 1e3;
    let help = "Time left of our leadership unless renewed.";
    page.single("edgevip_leader_until_seconds", Kind::Gauge, help, left);
    let counters = [
        ("edgevip_conflicts_total", "Claims of our VIPs by strangers.", status.conflicts),
        (
            "edgevip_fence_rebuilds_total",
            "Times the fence was gone and was built again.",
            status.fence_rebuilds,
        ),
        (
            "edgevip_fence_late_total",
            "Times the kernel opened the fence after leadership had ended.",
            status.fence_late,
        ),
        (
            "edgevip_addresses_readded_total",
            "Addresses that vanished and were put back.",
            status.readded,
        ),
    ];
    for (name, help, value) in counters {
        page.single(name, Kind::Counter, help, value);
    }
}

fn quorum_metrics(page: &mut Page, quorum: &QuorumStatus) {
    let leads = u8::from(quorum.leader.as_ref() == Some(&quorum.me));
    let voting = u8::from(quorum.silent_because.is_none());
    page.single("edgevip_quorum_term", Kind::Gauge, "The term as known here.", quorum.term);
    page.single("edgevip_quorum_is_leader", Kind::Gauge, "1 while this node leads.", leads);
    let known = u8::from(quorum.leader.is_some());
    page.single("edgevip_quorum_has_leader", Kind::Gauge, "1 while some member leads.", known);
    let help = "1 unless this member waits before it votes and promises.";
    page.single("edgevip_quorum_is_voting", Kind::Gauge, help, voting);
    let each = |page: &mut Page, value: fn(&MemberStatus) -> Option<f64>| {
        for it in &quorum.members {
            if let Some(value) = value(it) {
                page.sample(&[("member", &it.name.0)], value);
            }
        }
    };
    let help = "Since a member was last heard.";
    page.family("edgevip_quorum_member_heard_seconds", Kind::Gauge, help);
    each(page, |it| it.heard_ms_ago.map(|it| it as f64 / 1e3));
    let help = "The last round trip to a member.";
    page.family("edgevip_quorum_round_trip_seconds", Kind::Gauge, help);
    each(page, |it| it.round_trip_us.map(|it| it as f64 / 1e6));
    page.family("edgevip_quorum_vips_held", Kind::Gauge, "VIPs that a member is to carry.");
    each(page, |it| Some(it.holds.into()));
    page.family("edgevip_quorum_member_is_fit", Kind::Gauge, "0 for what should carry nothing.");
    each(page, |it| {
        Some(f64::from(u8::from(
            !it.ailments.iter().any(|it| it.bars_carrying()) && !it.leaving && !it.drained,
        )))
    });
    let help = "Datagrams from a member's address that were no good.";
    page.family("edgevip_quorum_bad_datagrams_total", Kind::Counter, help);
    for it in &quorum.members {
        for (code, count) in &it.bad {
            page.sample(&[("member", &it.name.0), ("code", code)], count);
        }
    }
}

fn process_metrics(page: &mut Page, process: &Process<'_>) {
    if let Some(bytes) = process.resident_bytes {
        page.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", bytes);
    }
    if let Some(started) = process.started {
        let help = "Start of the process, in seconds since 1970.";
        page.single("process_start_time_seconds", Kind::Gauge, help, started);
    }
}

enum Kind {
    Counter,
    Gauge,
}

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.family = name;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opening}{name}=\"{}\"", escaped(value));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{closing} {value}");
    }

    fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeName;
    use crate::wire::status::tests::{example, example_of_quorum};

    #[test]
    fn the_page_has_the_names_that_dashboards_ask_for() {
        let process = Process {
            version: "0.1.0",
            build: "abc",
            resident_bytes: Some(4096),
            started: Some(1.5),
        };
        let page = text(&example(), &process);
        let expected = [
            r#"kube_vip_is_leader{node="node-1",lease_name="plndr-cp-lock"} 1"#,
            r#"kube_vip_leader_election_transitions_total{lease_name="plndr-cp-lock"} 2"#,
            r#"kube_vip_build_info{version="0.1.0",build="abc",node="node-1"} 1"#,
            r#"edgevip_vip_state{vip="10.0.0.42",state="absent"} 0"#,
            r#"edgevip_vip_state{vip="10.0.0.42",state="answering"} 1"#,
            r#"edgevip_vip_state{vip="fd00::42",state="absent"} 1"#,
            r#"edgevip_refusal{vip="fd00::42",code="no-carrier"} 1"#,
            r#"edgevip_fence_holds{family="ipv4"} 1"#,
            r#"edgevip_fence_holds{family="ipv6"} 0"#,
            "edgevip_conflicts_total 2",
            "edgevip_fence_rebuilds_total 0",
            "edgevip_fence_late_total 0",
            "edgevip_addresses_readded_total 0",
            "edgevip_api_up 1",
            "edgevip_leader_until_seconds 8.45",
            "process_resident_memory_bytes 4096",
            "process_start_time_seconds 1.5",
        ];
        for line in expected {
            assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(r#"edgevip_refusal{vip="10.0.0.42""#), "{page}");
    }

    #[test]
    fn each_family_has_help_and_type_once_and_before_its_samples() {
        for status in [example(), example_of_quorum()] {
            each_family_is_whole(&text(&status, &Process::default()));
        }
    }

    pub fn each_family_is_whole(page: &str) {
        let mut lines = page.lines().peekable();
        let mut seen = Vec::new();
        while let Some(help) = lines.next() {
            let name = help.strip_prefix("# HELP ").unwrap().split(' ').next().unwrap();
            let kind = lines.next().unwrap();
            let expected = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(kind, format!("# TYPE {name} {expected}"));
            assert!(!seen.contains(&name), "{name} twice");
            seen.push(name);
            while let Some(sample) = lines.next_if(|it| !it.starts_with('#')) {
                let rest = sample.strip_prefix(name).unwrap();
                assert!(rest.starts_with(['{', ' ']), "{sample} under {name}");
                rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
        assert!(seen.len() > 10, "{seen:?}");
    }

    #[test]
    fn a_quorum_has_metrics_of_its_own() {
        let page = text(&example_of_quorum(), &Process::default());
        let expected = [
            "edgevip_quorum_term 7",
            "edgevip_quorum_is_leader 0",
            "edgevip_quorum_has_leader 1",
            "edgevip_quorum_is_voting 1",
            r#"edgevip_quorum_member_heard_seconds{member="node-2"} 0.012"#,
            r#"edgevip_quorum_round_trip_seconds{member="node-2"} 0.000412"#,
            r#"edgevip_quorum_vips_held{member="w"} 0"#,
            r#"edgevip_quorum_member_is_fit{member="node-1"} 0"#,
            r#"edgevip_quorum_bad_datagrams_total{member="w",code="key"} 3"#,
        ];
        for line in expected {
            assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("edgevip_api_up") && !page.contains("heard_seconds{member=\"w\""));
    }

    #[test]
    fn label_values_cannot_break_out_of_their_quotes() {
        let node = NodeName("a\"b\\c\nd".into());
        let page = text(&Status { node, ..example() }, &Process::default());
        assert!(page.contains(r#"node="a\"b\\c\nd""#), "{page}");
    }
}
