//! What is made for VIPs of Services beside their addresses: links, and what reaches them.

use super::{Cleaning, Node};
use crate::engine::Cx;
use crate::engine::placement::Wish;

impl Node {
    /// What reaches the VIPs that are here, or about to be: told before the address is there, and
    /// until after it is gone.
    pub(super) fn guard(&mut self, cx: &mut Cx<'_>) {
        if self.config.services.as_ref().is_none_or(|it| !it.guards) {
            return;
        }
        for vip in self.attention.looked_at.iter().copied() {
            let serving = self.serving.as_ref().filter(|_| !self.resolver.vips().contains(&vip));
            let place = serving.and_then(|it| it.services.place(vip));
            let wish = self.placement.get(vip).map(|it| &it.0);
            let comes = wish.is_some_and(|it| !matches!(it, Wish::Absent));
            let stays = self.announcer.is_here(vip);
            let refused = self.guards.refusal(vip).is_some();
            let ports = place.and_then(|it| it.guard.as_ref());
            match ports {
                // Of a Service that is gone, what was said stays until its address is gone.
                None if stays && place.is_none() => {}
                None => self.guards.want(vip, None),
                Some(ports) if comes || stays || refused => self.guards.want(vip, Some(ports)),
                Some(_) => self.guards.want(vip, None),
            }
        }
        self.guards.reconcile(cx);
    }

    /// Makes links that Services ask for, and removes those that nobody asks for any more.
    pub(super) fn make_links(&mut self, cx: &mut Cx<'_>) {
        // Before, they may be another process's.
        if self.cleaning == Cleaning::Done {
            let ends = self.stopping_at.is_some() && self.announcer.is_gone();
            let used = |link| self.announcer.is_on(link);
            self.links.reconcile(cx, &mut self.network, ends, &used);
        }
    }
}
