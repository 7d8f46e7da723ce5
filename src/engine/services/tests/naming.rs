//! Services that are reached by a DNS name.

use super::*;
use crate::model::{ApiFault, SideReply};

const NAME: &str = "web.example.org";

impl Bench {
    pub(super) fn elected() -> Self {
        let mut it = Self::new();
        let second = std::time::Duration::from_secs(1);
        it.services.config.election = ServicesElection::One(LeaseConfig {
            name: "a/lease".into(),
            duration: second * 15,
            renew_deadline: second * 10,
            retry_period: second * 2,
        });
        it
    }

    /// Answers the look-up that is under way.
    fn resolves(&mut self, reply: SideReply) -> &mut Self {
        let all = std::mem::take(&mut self.side);
        let asks = |it: &&(RequestId, SideCall)| matches!(&it.1, SideCall::Resolve { .. });
        let (request, call) = all.iter().find(asks).expect("a name is looked up").clone();
        assert_eq!(call, SideCall::Resolve { name: NAME.to_owned() });
        self.turn(|it, cx| it.on_side(cx, request, &reply))
    }

    fn finds(&mut self, ips: &[&str]) -> &mut Self {
        self.resolves(SideReply::Resolved(ips.iter().map(|it| it.parse().unwrap()).collect()))
    }

    fn vips(&self) -> Vec<String> {
        self.services.vips().map(|it| it.to_string()).collect()
    }
}

#[test]
fn a_service_has_what_its_name_stands_for_and_follows_it() {
    let mut bench = Bench::elected();
    bench.service(asking("a/web", NAME)).endpoints("a/web", &["n2"]);
    assert!(bench.refusal("a/web").unwrap().contains("is being looked up"));
    bench.finds(&["fd00::7", "10.0.0.8", "10.0.0.7"]);
    assert_eq!((bench.vips(), bench.refusal("a/web")), (vec!["10.0.0.7".to_owned()], None));
    // What it is told to have stays, as long as the name stands for it.
    let mut it = told(asking("a/web", "10.0.0.8"), 2);
    it.annotations.insert(ADDRESSES.into(), NAME.into());
    bench.service(it);
    assert_eq!(bench.vips(), ["10.0.0.8"]);
    bench.pass(4_000).finds(&["10.0.0.9"]);
    assert_eq!(bench.vips(), ["10.0.0.9"]);
    let (kind, why) = (ApiFaultKind::Unreachable, "no such host".to_owned());
    let fault = ApiFault { kind, why, retry_after: None };
    bench.pass(4_000).resolves(SideReply::Failed(fault));
    assert_eq!(bench.vips(), ["10.0.0.9"]);
    bench.objects(Followed::Services(None), vec![ObjectEvent::Deleted("a/web".into())]);
    bench.pass(4_000);
    assert!(bench.vips().is_empty() && bench.services.naming.deadline().is_none());
}

#[test]
fn until_a_name_is_looked_up_its_service_has_what_it_is_told_to_have() {
    let mut bench = Bench::elected();
    let mut it = told(asking("a/web", "10.0.0.8"), 2);
    it.annotations.insert(ADDRESSES.into(), NAME.into());
    bench.service(it);
    assert_eq!(bench.vips(), ["10.0.0.8"]);
}

#[test]
fn who_requires_two_families_has_both_or_none() {
    let mut bench = Bench::elected();
    let mut it = asking("a/web", NAME);
    it.families = vec![IpFamily::V4, IpFamily::V6];
    it.family_policy = FamilyPolicy::RequireDualStack;
    bench.service(it.clone()).finds(&["10.0.0.7"]);
    assert!(bench.vips().is_empty());
    assert!(bench.refusal("a/web").unwrap().contains("no address of the Service's ipFamilies"));
    bench.pass(4_000).finds(&["10.0.0.7", "fd00::7"]);
    assert_eq!(bench.vips(), ["10.0.0.7", "fd00::7"]);
    it.family_policy = FamilyPolicy::PreferDualStack;
    bench.service(it).pass(4_000).finds(&["10.0.0.7"]);
    assert_eq!(bench.vips(), ["10.0.0.7"]);
}

#[test]
fn where_members_elect_a_name_is_refused() {
    let mut bench = Bench::new();
    bench.service(asking("a/web", NAME));
    assert!(bench.refusal("a/web").unwrap().contains("two of them could find different ones"));
}
