//! What the link is listened to for. What the kernel was told is compared with what is placed,
//! and only what differs is said: one VIP more costs nothing of the others.

use std::collections::BTreeSet;

use super::entry::KERNEL_AGAIN;
use crate::engine::Cx;
use crate::engine::placement::Placement;
use crate::model::{Instant, KernelJob, LinkIndex, OrderId, Vip};

#[derive(Clone, Debug, Default)]
pub(super) struct Hearing {
    /// What the kernel was told; `None`: nobody knows what it made of that.
    told: Option<Told>,
    /// What is listened for beside what is placed.
    also: Told,
    /// Of these, what it was told may not be what is wanted.
    turned: BTreeSet<Vip>,
    /// What it was told and has not answered.
    orders: BTreeSet<OrderId>,
    /// It would not: ask again then.
    pub again_at: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    links: BTreeSet<LinkIndex>,
    vips: BTreeSet<Vip>,
}

impl Hearing {
    pub fn on_answer(&mut self, now: Instant, order: OrderId, refused: bool) {
        if self.orders.remove(&order) && refused {
            self.told = None;
            self.again_at = Some(now + KERNEL_AGAIN);
        }
    }

    /// Hears of these as well, on these links, although nobody is to have them yet.
    pub fn listen_also(&mut self, links: BTreeSet<LinkIndex>, vips: BTreeSet<Vip>) {
        self.turned.extend(self.also.vips.symmetric_difference(&vips));
        self.also = Told { links, vips };
    }

    /// Something happened to the VIP.
    pub fn look_at(&mut self, vip: Vip, placed: bool) {
        let wanted = placed || self.also.vips.contains(&vip);
        if self.told.as_ref().is_some_and(|it| it.vips.contains(&vip) != wanted) {
            self.turned.insert(vip);
        }
    }

    /// Tells the kernel what it does not know yet. `links`: those of what is placed.
    pub fn tell(
        &mut self,
        cx: &mut Cx<'_>,
        links: impl Iterator<Item = LinkIndex>,
        placement: &Placement,
    ) {
        self.again_at.take_if(|it| *it <= cx.now);
        if self.again_at.is_some() {
            return;
        }
        let links: BTreeSet<_> = links.chain(self.also.links.iter().copied()).collect();
        let also = &self.also.vips;
        let turned = std::mem::take(&mut self.turned);
        let (mut more, mut less) = (Vec::new(), Vec::new());
        let anew = self.told.is_none();
        match &mut self.told {
            None => {
                let vips: BTreeSet<_> = placement.vips().chain(also.iter().copied()).collect();
                more.extend(vips.iter().copied());
                self.told = Some(Told { links: links.clone(), vips });
            }
            Some(told) => {
                for vip in turned {
                    match placement.get(vip).is_some() || also.contains(&vip) {
                        true => more.extend(told.vips.insert(vip).then_some(vip)),
                        false => less.extend(told.vips.remove(&vip).then_some(vip)),
                    }
                }
                if more.is_empty() && less.is_empty() && told.links == links {
                    return;
                }
                told.links.clone_from(&links);
            }
        }
        let links = links.into_iter().collect();
        self.orders.insert(cx.order(KernelJob::Listen { links, more, less, anew }));
    }
}
