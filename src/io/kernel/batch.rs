//! A batch of orders as it is carried out: what the fence is told of many VIPs goes into few
//! transactions, each of which costs as much as a hundred elements.

use std::collections::{BTreeSet, VecDeque};

use super::{Deliver, FromKernel};
use crate::model::{Instant, KernelAnswer, KernelJob, OrderId, Vip};

/// Orders that are given at once.
pub(super) type Batch = Vec<(OrderId, KernelJob)>;

/// What became of orders.
pub(super) type Answers = Vec<(OrderId, KernelAnswer)>;

/// So many steps are done before it is looked whether something else can be done first.
pub(super) const BETWEEN: usize = 32;
/// What comes first must be short.
const FEW: usize = 64;

/// Delivers answers in the order of their orders.
pub(super) fn tell(mut answers: Answers, deliver: &Deliver) {
    if !answers.is_empty() {
        answers.sort_by_key(|it| it.0);
        deliver(FromKernel::Answers(answers));
    }
}

/// What is done in one piece.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    One(OrderId, KernelJob),
    /// Silent, each until its own moment.
    Silence(Vec<(OrderId, Vec<Vip>, Instant)>),
    Unfence(Vec<(OrderId, Vec<Vip>)>),
}

/// Silence goes first, but for VIPs that something was ordered for before it: what is silent
/// sooner is no danger, and everything else keeps its order.
pub(super) fn steps(batch: Batch) -> Vec<Step> {
    let silences = |it: &&(OrderId, KernelJob)| matches!(it.1, KernelJob::Silence { .. });
    if batch.iter().filter(silences).nth(1).is_none() {
        return together(batch.into_iter().map(|(order, job)| Step::One(order, job)));
    }
    let (mut silent, mut rest) = (Vec::new(), Vec::new());
    let (mut met, mut barred) = (BTreeSet::new(), false);
    for (order, job) in batch {
        match job {
            KernelJob::Silence { vips, until }
                if !barred && !vips.iter().any(|it| met.contains(it)) =>
            {
                silent.push((order, vips, until));
            }
            job => {
                barred |= matches!(job, KernelJob::Clean { .. } | KernelJob::VerifyFence);
                met.extend(about(&job));
                rest.push(Step::One(order, job));
            }
        }
    }
    let silent = (!silent.is_empty()).then_some(Step::Silence(silent));
    silent.into_iter().chain(together(rest.into_iter())).collect()
}

/// Forgetting one after another is forgetting all.
fn together(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut all = Vec::new();
    for step in steps {
        let Step::One(order, KernelJob::Unfence { vips }) = step else {
            all.push(step);
            continue;
        };
        match all.last_mut() {
            Some(Step::Unfence(more)) => more.push((order, vips)),
            Some(Step::One(..) | Step::Silence(_)) | None => {
                all.push(Step::Unfence(vec![(order, vips)]));
            }
        }
    }
    all
}

/// Whether it makes no difference that this is done before the rest of an earlier batch: it is
/// short, and about other VIPs.
pub(super) fn is_apart(batch: &Batch, rest: &VecDeque<Step>) -> bool {
    let whole = |job: &KernelJob| matches!(job, KernelJob::Clean { .. } | KernelJob::VerifyFence);
    let listens = |job: &KernelJob| matches!(job, KernelJob::Listen { .. });
    if batch.len() > FEW || batch.iter().any(|it| whole(&it.1)) {
        return false;
    }
    let vips: BTreeSet<Vip> = batch.iter().flat_map(|it| about(&it.1)).collect();
    let meets = |all: &[Vip]| all.iter().any(|it| vips.contains(it));
    !rest.iter().any(|step| match step {
        Step::One(_, KernelJob::HoldAddress { vip, .. }) => vips.contains(vip),
        Step::One(_, KernelJob::SendFrame { frame, .. }) => vips.contains(&Vip(frame.ip())),
        Step::One(_, job) => whole(job) || listens(job) || meets(&about(job)),
        Step::Silence(all) => all.iter().any(|it| meets(&it.1)),
        Step::Unfence(all) => all.iter().any(|it| meets(&it.1)),
    })
}

fn about(job: &KernelJob) -> Vec<Vip> {
    match job {
        KernelJob::Answer { vips, .. }
        | KernelJob::Silence { vips, .. }
        | KernelJob::Unfence { vips } => vips.clone(),
        KernelJob::Guard(all) => all.iter().map(|it| it.vip).collect(),
        KernelJob::HoldAddress { vip, .. } | KernelJob::RemoveAddress { vip, .. } => vec![*vip],
        KernelJob::SendFrame { frame, .. } => vec![Vip(frame.ip())],
        KernelJob::Clean { .. }
        | KernelJob::Listen { .. }
        | KernelJob::MakeLink(_)
        | KernelJob::RemoveLink { .. }
        | KernelJob::VerifyFence => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::model::LinkIndex;

    const END: Instant = Instant::from_nanos(9);

    fn vip(last: u8) -> Vip {
        Vip([10, 0, 0, last].into())
    }

    fn remove(last: u8) -> KernelJob {
        KernelJob::RemoveAddress { link: LinkIndex(2), vip: vip(last), length: 32 }
    }

    /// Such as `s1 r1 u1 v`: silence, remove, unfence; verify. Then what becomes of it.
    fn told(text: &str) -> String {
        let one = |(number, word): (usize, &str)| {
            let (kind, last) = word.split_at(1);
            let last = last.parse().unwrap_or(0);
            let job = match kind {
                "s" => KernelJob::Silence { vips: vec![vip(last)], until: END },
                "r" => remove(last),
                "u" => KernelJob::Unfence { vips: vec![vip(last)] },
                _ => KernelJob::VerifyFence,
            };
            (OrderId(NonZeroU64::MIN.saturating_add(number as u64)), job)
        };
        let steps = steps(text.split(' ').enumerate().map(one).collect());
        let place = |it: OrderId| (it.0.get() - 1).to_string();
        let numbers = |all: Vec<OrderId>| all.into_iter().map(place).collect::<Vec<_>>().join("+");
        let word = |step| match step {
            Step::One(order, _) => place(order),
            Step::Silence(all) => numbers(all.into_iter().map(|it| it.0).collect()),
            Step::Unfence(all) => numbers(all.into_iter().map(|it| it.0).collect()),
        };
        steps.into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_short_and_about_others_need_not_wait() {
        let hold = |last| KernelJob::HoldAddress {
            link: LinkIndex(2),
            vip: vip(last),
            length: 32,
            until: END,
        };
        let answer = |last| KernelJob::Answer { vips: vec![vip(last)], until: END };
        let listen =
            KernelJob::Listen { links: vec![], more: vec![vip(1)], less: vec![], anew: false };
        let number = |all: Vec<KernelJob>| -> Batch {
            all.into_iter().map(|job| (OrderId::default(), job)).collect()
        };
        let long = (0..65).map(hold).collect();
        let table = [
            (vec![answer(1), hold(1)], vec![hold(2), answer(3)], true),
            (vec![listen.clone(), answer(1), hold(1)], vec![hold(2)], true),
            (vec![answer(1)], vec![hold(2), answer(1)], false),
            (vec![hold(1)], vec![hold(1)], false),
            (vec![KernelJob::VerifyFence], vec![hold(2)], false),
            (vec![hold(1)], vec![KernelJob::VerifyFence], false),
            (vec![hold(1)], vec![listen], false),
            (long, vec![hold(200)], false),
        ];
        for (later, rest, apart) in table {
            let rest = VecDeque::from(steps(number(rest)));
            assert_eq!(is_apart(&number(later.clone()), &rest), apart, "{later:?} {rest:?}");
        }
    }

    #[test]
    fn what_the_fence_is_told_of_many_is_together_and_never_after_what_builds_on_it() {
        let table = [
            ("s1 r1", "0 1"),
            ("s1 r1 s2 r2 s3 r3", "0+2+4 1 3 5"),
            ("u1 u2 r3 u4", "0+1 2 3"),
            ("r1 s1 s2", "2 0 1"),
            ("u1 s1 s2 s3", "2+3 0 1"),
            ("s1 v s2 s3", "0 1 2 3"),
            ("s1 s2 u1 u2", "0+1 2+3"),
        ];
        for (batch, done) in table {
            assert_eq!(told(batch), done, "{batch}");
        }
    }
}
