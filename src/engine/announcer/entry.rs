mod ahead;

use std::time::Duration;

use super::super::Cx;
use super::super::network::Usable;
use super::super::sabotage::{Sabotage, sabotaged};
use super::claim::Claim;
use super::held::{Held, Part, Right, lifetime};
use super::index::Next;
use crate::model::{Frame, Instant, KernelAnswer, KernelJob, LinkIndex, Mac, OrderId, Vip};

/// Offsets from a takeover. One second and more apart as well, since Linux neighbours lock
/// an entry for that long (metallb#172).
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(1_100),
    Duration::from_millis(2_200),
];
/// The kernel said no: ask again.
pub(super) const KERNEL_AGAIN: Duration = Duration::from_secs(1);
/// The fence remembers an address for this long after the address's own end.
const FENCE_OUTLIVES: Duration = Duration::from_secs(3);
/// Without a fence an address is not given for less: a lifetime of under a second is rounded
/// up, and would end later than is safe.
const UNFENCED_LEAST: Duration = Duration::from_millis(1_500);
/// A fence that is opened for less is opened for longer whenever it may be: every loss of
/// what might come next then finds all of it given.
const SHORT: Duration = Duration::from_secs(1);
const NO_END: Duration = Duration::from_secs(1 << 30);

/// One VIP on this node: what was ordered last, and what the kernel said to it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    fenced: bool,
    pub claimed: Claim,
    pub held: Option<Held>,
    gate: Gate,
    /// When the next announcement is due, and how many of the burst were sent.
    burst: Option<(Instant, u8)>,
    /// The kernel refused; do not ask before.
    pub refused: Option<Box<(KernelAnswer, Instant)>>,
    /// The kernel may answer, until `quiet_by` is done.
    pub may_answer: bool,
    quiet_by: Option<OrderId>,
    removing: Option<OrderId>,
    /// How long we may answer, where less was ordered.
    available: Instant,
    keepable: Right,
    /// It is one of many, which are not looked at with each renewal.
    pub many: bool,
    /// Another node was heard to answer since this one went silent.
    pub succeeded: bool,
    pub stranger: Option<Mac>,
    /// How often somebody removed it.
    pub readded: u32,
    /// The link that it is to be on.
    pub wanted_on: Option<LinkIndex>,
    /// When it is next looked at.
    pub next: Next,
}

/// The fence as last ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    /// Not in the fence, or nobody knows.
    Unknown,
    Open {
        ordered_at: Instant,
        until: Instant,
        order: OrderId,
        part: Part,
    },
    /// The fence remembers that the address is ours, even if it lives until then.
    Closed {
        until: Instant,
    },
}

/// Where an address is to be, and what part of all is its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub on: Usable,
    pub length: u8,
    pub part: Part,
}

fn is_short(ordered_at: Instant, until: Instant) -> bool {
    until.saturating_since(ordered_at) < SHORT
}

impl Entry {
    pub fn new(fenced: bool) -> Self {
        Self {
            fenced,
            claimed: Claim::Unasked,
            held: None,
            gate: Gate::Unknown,
            burst: None,
            refused: None,
            may_answer: false,
            quiet_by: None,
            removing: None,
            available: Instant::from_nanos(0),
            keepable: Right::NONE,
            many: false,
            succeeded: false,
            stranger: None,
            readded: 0,
            wanted_on: None,
            next: Next::default(),
        }
    }

    pub fn on_answer(&mut self, cx: &mut Cx<'_>, vip: Vip, order: OrderId, answer: &KernelAnswer) {
        self.on_asked(cx, order, answer);
        let good = answer.is_good();
        let again_at = cx.now + KERNEL_AGAIN;
        let failed = answer.refusal().map(|_| Box::new((answer.clone(), again_at)));
        if let Some(held) = self.held.as_mut().filter(|it| it.order == Some(order)) {
            held.order = None;
            match answer {
                KernelAnswer::Done | KernelAnswer::FenceRebuilt => held.done = true,
                // What it would not extend may be there all the same, so it is still to be
                // removed one day.
                KernelAnswer::Failed(_) | KernelAnswer::NoLink => {
                    held.missing |= !held.done;
                }
                KernelAnswer::TooLate => self.held = None,
                // The fence is for addresses of ours: it must not deny another's.
                KernelAnswer::NotOurs(_) => {
                    self.held = None;
                    self.unfence(cx, vip);
                }
            }
            self.refused = failed.clone();
        }
        if matches!(self.gate, Gate::Open { order: it, .. } if it == order) && !good {
            self.gate = Gate::Unknown;
            self.refused = failed.clone();
        }
        if self.removing == Some(order) {
            self.removing = None;
            self.refused = failed.clone();
            if good {
                self.held = None;
                // Even if the fence could not be closed before.
                self.may_answer = false;
                self.unfence(cx, vip);
            }
        }
        if self.quiet_by == Some(order) {
            self.quiet_by = None;
            match failed {
                None => self.may_answer = false,
                Some(_) => self.gate = Gate::Unknown,
            }
        }
    }

    /// The fence was found gone: what it says about us has to be said again.
    pub fn on_fence_rebuilt(&mut self) {
        if self.fenced {
            self.gate = Gate::Unknown;
        }
    }

    /// A refusal counts for a while only.
    pub fn forgive(&mut self, now: Instant) {
        self.refused.take_if(|it| it.1 <= now);
    }

    /// Notes that the address is gone, if it is the one meant. Returns whether somebody
    /// removed it: it may have come to its own end.
    pub fn lose(&mut self, now: Instant, is_meant: impl Fn(&Held) -> bool) -> bool {
        let removing = self.removing.is_some();
        let Some(held) = self.held.as_mut().filter(|it| !removing && is_meant(it)) else {
            return false;
        };
        held.missing = true;
        let removed = now < held.ends_at;
        self.readded = self.readded.saturating_add(removed.into());
        removed
    }

    /// The fence was ordered to open.
    pub fn opened(&mut self, now: Instant, until: Instant, order: OrderId, part: Part) {
        if !matches!(self.gate, Gate::Open { .. }) {
            let heals = self.held.is_some() && sabotaged(Sabotage::BurstMissingAfterHeal);
            self.burst = (!heals).then_some((now, 0));
        }
        self.gate = Gate::Open { ordered_at: now, until, order, part };
        self.refused = None;
        self.may_answer = true;
        self.quiet_by = None;
        self.succeeded = false;
    }

    /// Announces anew what somebody else claimed, but where that is under way: a stranger that
    /// goes on is not answered by more and more frames.
    pub fn defend(&mut self, now: Instant) {
        if self.burst.is_none_or(|(_, sent)| usize::from(sent) >= BURST.len()) {
            self.burst = Some((now, 0));
        }
    }

    /// Leaves a place that is not the wanted one, in the same batch that takes the new one.
    pub fn move_away(&mut self, cx: &mut Cx<'_>, vip: Vip, on: Usable, length: u8) {
        let Some(held) = &mut self.held else {
            return;
        };
        if (held.on.index, held.length) != (on.index, length) {
            let (link, length) = (held.on.index, held.length);
            self.held = None;
            self.removing = None;
            cx.order(KernelJob::RemoveAddress { link, vip, length });
            return;
        }
        let healed = on.carrier && !held.on.carrier && !sabotaged(Sabotage::BurstMissingAfterHeal);
        if held.on.mac != on.mac || healed {
            self.burst = Some((cx.now, 0));
        }
        held.on = on;
    }

    /// Whether the fence is to be opened, or opened for longer.
    pub fn wants_gate(&mut self, now: Instant, until: Instant, keep_until: Instant) -> bool {
        self.available = until;
        self.keepable.set(now, keep_until, self.many);
        match self.gate {
            _ if !self.fenced || self.is_refused(now) => false,
            // The fence has to outlive the address: it is given no less than that is.
            Gate::Open { until: given, ordered_at, part, .. } => {
                let due = is_short(ordered_at, given) || part.half_of(ordered_at, given) <= now;
                until > given && (due || self.wants_hold(now))
            }
            Gate::Closed { .. } | Gate::Unknown => true,
        }
    }

    /// Adds the address, puts it back, or extends it.
    pub fn hold(&mut self, cx: &mut Cx<'_>, vip: Vip, at: Spot, until: Instant) {
        let short = !self.fenced && until.saturating_since(cx.now) < UNFENCED_LEAST;
        let keepable = if short { Instant::from_nanos(0) } else { until };
        self.keepable.set(cx.now, keepable, self.many);
        if !self.fenced {
            // What was to be removed, and could not be, answers again.
            self.burst.get_or_insert((cx.now, 0));
        }
        if short || !self.wants_hold(cx.now) || self.is_refused(cx.now) {
            return;
        }
        let stays = self.held.is_some_and(|it| !it.missing) && self.removing.is_none();
        if !stays {
            self.burst = Some((cx.now, self.already_sent()));
        }
        if !self.fenced {
            self.may_answer = true;
            self.quiet_by = None;
            self.succeeded = false;
        }
        self.refused = None;
        self.order_hold(cx, vip, at, until);
    }

    /// What is put back is nobody else's meanwhile: neighbours know it still, and one announcement
    /// is for those that asked in vain. A kernel that is too slow for thousands of addresses
    /// does not get ten frames more for each that ran out.
    fn already_sent(&self) -> u8 {
        let back = self.held.is_some_and(|it| it.missing) && self.removing.is_none();
        let sent = self.burst.filter(|_| back).map_or(0, |it| it.1);
        sent.min(BURST.len() as u8 - 1)
    }

    fn wants_hold(&self, now: Instant) -> bool {
        let held = self.held.filter(|it| !it.missing && self.removing.is_none());
        held.is_none_or(|it| it.is_due(now, self.keepable, self.fenced))
    }

    /// Announces what is held, if it is time. `gaps`: that after the burst, and all others.
    pub fn announce(&mut self, cx: &mut Cx<'_>, vip: Vip, until: Instant, gaps: [Duration; 2]) {
        let here = self.held.filter(|it| !it.missing);
        let (Some(held), Some((at, sent)), true) = (here, self.burst, self.is_open()) else {
            return;
        };
        if at > cx.now {
            return;
        }
        let (link, mac, ip) = (held.on.index, held.on.mac, vip.0);
        cx.order(KernelJob::SendFrame { link, frame: Frame::Announce { mac, ip }, until });
        if ip.is_ipv4() {
            let frame = Frame::AnnounceReply { mac, ip };
            cx.order(KernelJob::SendFrame { link, frame, until });
        }
        let step = usize::from(sent);
        let gap = match (BURST.get(step), BURST.get(step + 1)) {
            (Some(this), Some(next)) => *next - *this,
            (Some(_), None) => gaps[0],
            (None, Some(_) | None) => gaps[1],
        };
        self.burst = Some((cx.now + gap, sent.saturating_add(1)));
    }

    /// Keeps the address, but lets the kernel not answer for it.
    pub fn silence(&mut self, cx: &mut Cx<'_>, vip: Vip, keep_until: Option<Instant>) {
        self.stop_announcing();
        let Some(held) = self.held.filter(|it| !it.missing) else {
            return self.remove(cx, vip);
        };
        self.keepable.set(cx.now, keep_until.unwrap_or(held.ends_at), self.many);
        let due = held.is_due(cx.now, self.keepable, self.fenced);
        let extend = due && !self.is_refused(cx.now);
        match self.gate {
            Gate::Closed { .. } if !extend || self.quiet_by.is_some() => {}
            // The kernel is known to remember the address for longer than it can live.
            Gate::Closed { until } if until >= self.keepable.until => {
                let at = Spot { on: held.on, length: held.length, part: held.part };
                self.order_hold(cx, vip, at, self.keepable.until);
            }
            Gate::Closed { .. } | Gate::Open { .. } | Gate::Unknown => {
                self.close(cx, vip, held.latest_end(cx.now).max(self.keepable.until));
            }
        }
    }

    /// Has the address there, and the kernel not answer for it: fence first.
    pub fn prepare(
        &mut self,
        cx: &mut Cx<'_>,
        vip: Vip,
        on: Usable,
        length: u8,
        keep_until: Instant,
    ) {
        self.move_away(cx, vip, on, length);
        if self.held.is_some_and(|it| !it.missing) && self.removing.is_none() {
            return self.silence(cx, vip, Some(keep_until));
        }
        self.stop_announcing();
        if !self.fenced || self.is_refused(cx.now) || self.removing.is_some() {
            return;
        }
        self.keepable.set(cx.now, keep_until, self.many);
        let remembered = matches!(self.gate, Gate::Closed { until } if until >= keep_until)
            && self.quiet_by.is_none();
        if !remembered {
            self.close(cx, vip, keep_until);
        }
        let at = Spot { on, length, part: Part::default() };
        self.order_hold(cx, vip, at, keep_until);
    }

    /// Whether the address is known to be there, and not to be answered for.
    pub fn is_ready(&self) -> bool {
        let here = self.held.is_some_and(|it| it.done && !it.missing);
        here && self.is_closed() && self.quiet_by.is_none() && self.removing.is_none()
    }

    /// Takes the address away, and the fence after it.
    pub fn remove(&mut self, cx: &mut Cx<'_>, vip: Vip) {
        self.stop_announcing();
        if self.removing.is_some() {
            return;
        }
        let Some(held) = self.held else {
            self.refused = None;
            return self.unfence(cx, vip);
        };
        if self.is_refused(cx.now) {
            return;
        }
        if self.fenced && !self.is_closed() {
            self.close(cx, vip, held.latest_end(cx.now));
        }
        let (link, length) = (held.on.index, held.length);
        let order = cx.order(KernelJob::RemoveAddress { link, vip, length });
        self.removing = Some(order);
        self.refused = None;
        if !self.fenced {
            self.quiet_by = Some(order);
        }
    }

    /// Whether the kernel was last told to answer.
    pub fn is_open(&self) -> bool {
        match self.gate {
            _ if !self.fenced => self.held.is_some() && self.removing.is_none(),
            Gate::Open { .. } => true,
            Gate::Closed { .. } | Gate::Unknown => false,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.held.is_none() && self.gate == Gate::Unknown && self.removing.is_none()
    }

    fn order_hold(&mut self, cx: &mut Cx<'_>, vip: Vip, at: Spot, until: Instant) {
        let Spot { on, length, part } = at;
        let until = if sabotaged(Sabotage::NoLifetime) { cx.now + NO_END } else { until };
        let order = cx.order(KernelJob::HoldAddress { link: on.index, vip, length, until });
        let order = Some(order);
        let (ordered_at, ends_at) =
            (cx.now, cx.now + lifetime(cx.now, until).max(Duration::from_secs(1)));
        // What is being removed is gone by the time of this order, and here again after it.
        let stays = self.removing.take().is_none();
        let done = self.held.is_some_and(|it| stays && it.done && !it.missing);
        self.held =
            Some(Held { on, length, ordered_at, ends_at, order, part, done, missing: false });
    }

    fn close(&mut self, cx: &mut Cx<'_>, vip: Vip, end: Instant) {
        let order = cx.order(KernelJob::Silence { vips: vec![vip], until: end + FENCE_OUTLIVES });
        self.succeeded &= self.is_closed();
        self.gate = Gate::Closed { until: end };
        self.quiet_by = Some(order);
    }

    /// Only once the address is gone: before that, the fence is what keeps it silent.
    fn unfence(&mut self, cx: &mut Cx<'_>, vip: Vip) {
        if self.gate != Gate::Unknown {
            let order = cx.order(KernelJob::Unfence { vips: vec![vip] });
            if self.may_answer {
                self.quiet_by = Some(order);
            }
            self.gate = Gate::Unknown;
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.gate, Gate::Closed { .. })
    }

    fn stop_announcing(&mut self) {
        self.burst = None;
        self.claimed = Claim::Unasked;
    }

    pub fn is_refused(&self, now: Instant) -> bool {
        self.refused.as_ref().is_some_and(|it| now < it.1)
    }
}
