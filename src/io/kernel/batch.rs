//! A batch of orders as it is carried out: what the fence is told of many VIPs goes into few
//! transactions, each of which costs as much as a hundred elements.

use std::collections::BTreeSet;

use crate::model::{Instant, KernelJob, OrderId, Vip};

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
pub(super) fn steps(batch: Vec<(OrderId, KernelJob)>) -> Vec<Step> {
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

fn about(job: &KernelJob) -> Vec<Vip> {
    match job {
        KernelJob::Answer { vips, .. }
        | KernelJob::Silence { vips, .. }
        | KernelJob::Unfence { vips } => vips.clone(),
        KernelJob::HoldAddress { vip, .. } | KernelJob::RemoveAddress { vip, .. } => vec![*vip],
        KernelJob::SendFrame { frame, .. } => vec![Vip(frame.ip())],
        KernelJob::Clean { .. } | KernelJob::Listen { .. } | KernelJob::VerifyFence => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
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
            (OrderId(number as u64), job)
        };
        let steps = steps(text.split(' ').enumerate().map(one).collect());
        let numbers =
            |all: Vec<OrderId>| all.iter().map(|it| it.0.to_string()).collect::<Vec<_>>().join("+");
        let word = |step| match step {
            Step::One(order, _) => order.0.to_string(),
            Step::Silence(all) => numbers(all.into_iter().map(|it| it.0).collect()),
            Step::Unfence(all) => numbers(all.into_iter().map(|it| it.0).collect()),
        };
        steps.into_iter().map(word).collect::<Vec<_>>().join(" ")
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
