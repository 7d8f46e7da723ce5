//! The labels of this node's Node.

use super::*;
use crate::model::{ApiFault, PROVIDED, SideReply};

impl Bench {
    fn labelled() -> Self {
        let mut it = Self::new();
        it.services.labels = super::super::labels::Labels::new(true);
        it.endpoints("a/web", &["n2"]);
        it
    }

    /// Its Node says so of Services.
    fn node_says(&mut self, labels: &[(&str, &str)]) -> &mut Self {
        let provided = |(name, ip): &(&str, &str)| (format!("{PROVIDED}{name}"), (*ip).to_owned());
        let provided = labels.iter().map(provided).collect();
        let it = ClusterNode { provided, ..a_node(ME) };
        self.objects(Followed::Nodes, vec![ObjectEvent::Changed(Box::new(Object::Node(it)))])
    }

    /// The labels that were to be written since the last time.
    fn labels(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for (_, call) in &self.side {
            let SideCall::LabelNode { node, labels } = call else { panic!("{call:?}") };
            assert_eq!(&*node.0, ME);
            let words = labels.iter().map(|(key, value)| {
                let key = key.strip_prefix(PROVIDED).unwrap();
                format!("{key}={}", value.as_deref().unwrap_or("gone"))
            });
            all.extend(words);
        }
        all
    }

    fn answer(&mut self, reply: SideReply) -> &mut Self {
        let (request, _) = self.side.remove(0);
        self.turn(|it, cx| it.on_side(cx, request, &reply))
    }
}

#[test]
fn a_node_is_labelled_with_the_services_it_answers_for() {
    let mut bench = Bench::labelled();
    bench.service(told(asking("a/web", IP), 1)).answers(IP, true);
    assert!(bench.labels().is_empty(), "its Node is not known");
    // What an earlier process left goes in the same write.
    bench.node_says(&[("old.a", "10.0.0.9")]);
    assert_eq!(bench.labels(), ["old.a=gone", "web.a=10.0.0.5"]);
    assert!(!bench.services.has_labelled());
    bench.answer(SideReply::Done);
    assert!(bench.services.has_labelled() && bench.labels().is_empty());
    // The watch may be late with what it tells.
    bench.node_says(&[("web.a", "10.0.0.5")]);
    assert!(bench.labels().is_empty());
    bench.answers(IP, false);
    assert_eq!(bench.labels(), ["web.a=gone"]);
    bench.answers(IP, true).answer(SideReply::Done);
    assert_eq!(bench.labels(), ["web.a=10.0.0.5"]);
}

#[test]
fn what_somebody_takes_away_is_put_back_and_a_refusal_waits() {
    let mut bench = Bench::labelled();
    bench.node_says(&[]).service(told(asking("a/web", IP), 1)).answers(IP, true);
    let fault = ApiFault { kind: ApiFaultKind::Forbidden, why: "no".to_owned(), retry_after: None };
    bench.answer(SideReply::Failed(fault));
    assert!(bench.labels().is_empty() && !bench.services.has_labelled());
    assert!(bench.services.deadline(bench.now).is_some());
    bench.pass(5_000);
    assert_eq!(bench.labels(), ["web.a=10.0.0.5"]);
    bench.answer(SideReply::Done).node_says(&[]);
    assert_eq!(bench.labels(), ["web.a=10.0.0.5"]);
}

#[test]
fn a_service_that_is_gone_and_one_that_is_named_too_long_have_no_label() {
    let mut bench = Bench::labelled();
    let long = format!("{}/web", "n".repeat(60));
    bench.node_says(&[]).service(told(asking("a/web", IP), 1)).answers(IP, true);
    bench.answer(SideReply::Done);
    bench.service(told(asking(&long, "10.0.0.7"), 1)).answers("10.0.0.7", true);
    assert!(bench.labels().is_empty());
    let gone = vec![ObjectEvent::Deleted("a/web".into())];
    bench.objects(Followed::Services(None), gone);
    assert_eq!(bench.labels(), ["web.a=gone"]);
}
