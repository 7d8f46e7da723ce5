use super::Seat;
use super::roster::{Roster, Row, Standing};
use super::why::Why;
use crate::model::{Epoch, NodeName, Vip};

/// What is to become of a VIP.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Ruling {
    /// It stays where it is.
    Stay(Option<Why>),
    /// Another is to get ready for it.
    Prepare(Cause),
    /// Another is to carry it at once, or the same anew, or nobody if nobody may.
    Replace(Why),
}

impl Ruling {
    fn nobody() -> Self {
        Self::Stay(Some(Why::Nobody))
    }
}

/// Why a VIP is moved although its holder could go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    Asked,
    Drained,
    FailBack,
    Leaving,
    Sick,
}

impl Cause {
    /// `holder` is where the VIP is to go from.
    pub fn why(self, holder: &NodeName) -> Why {
        match self {
            Self::Asked => Why::Asked,
            Self::Drained => Why::Drained(holder.clone()),
            Self::FailBack => Why::FailBack,
            Self::Leaving => Why::Leaving(holder.clone()),
            Self::Sick => Why::Sick(holder.clone()),
        }
    }
}

/// A VIP and what is wished for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub vip: Vip,
    /// Where an operator wants it.
    pub wish: Option<&'a NodeName>,
    /// Where it would be if it were nowhere yet, if that counts.
    pub ideal: Option<&'a NodeName>,
}

impl Case<'_> {
    pub fn rule(self, roster: &Roster<'_>, seat: &Seat) -> Ruling {
        let Some(name) = &seat.assigned.holder else {
            let is_new = seat.assigned.epoch == Epoch::default();
            let may = is_new || self.may_go_on(roster);
            return if may { Ruling::Replace(Why::Lightest) } else { Ruling::nobody() };
        };
        let Some(holder) = roster.get(name) else {
            return Ruling::Replace(Why::Gone(name.clone()));
        };
        if holder.standing == Standing::Dead {
            let may = roster.rows.iter().any(|it| it.may_take(self.vip));
            let dead = || Ruling::Replace(Why::Dead(name.clone()));
            return if may { dead() } else { Ruling::nobody() };
        }
        if holder.has_released(self.vip, seat.assigned.epoch) {
            return Ruling::Replace(Why::Released(name.clone()));
        }
        if holder.is_unable(self.vip) {
            return Ruling::Replace(Why::Unable(name.clone()));
        }
        match self.cause(roster, holder) {
            Some(cause) => Ruling::Prepare(cause),
            None => Ruling::Stay(self.why_it_stays(roster, holder)),
        }
    }

    /// Whether the VIP may go from its holder to this one, for this cause.
    pub fn permits(self, cause: Cause, holder: &Row<'_>, to: &Row<'_>) -> bool {
        let free = to.standing == Standing::Free;
        to.name != holder.name
            && to.may_take(self.vip)
            && match cause {
                Cause::Asked => free && self.wish == Some(to.name) && to.fitness <= holder.fitness,
                Cause::Drained => free,
                Cause::FailBack => {
                    free && self.ideal == Some(to.name) && to.fitness <= holder.fitness
                }
                Cause::Leaving => true,
                Cause::Sick => free && to.fitness < holder.fitness,
            }
    }

    /// Whether anybody may take it, or has it.
    fn may_go_on(self, roster: &Roster<'_>) -> bool {
        roster.rows.iter().any(|it| it.may_take(self.vip)) || roster.holding(self.vip).is_some()
    }

    fn cause(self, roster: &Roster<'_>, holder: &Row<'_>) -> Option<Cause> {
        let elsewhere = |place: Option<&NodeName>| place.is_some_and(|it| it != holder.name);
        let fitter_exists = roster.fittest.is_some_and(|it| it < holder.fitness);
        let causes = match holder.standing {
            Standing::Leaving => [Some(Cause::Leaving), None, None],
            Standing::Drained => [Some(Cause::Drained), None, None],
            Standing::Free => [
                Some(Cause::Sick).filter(|_| fitter_exists),
                Some(Cause::Asked).filter(|_| elsewhere(self.wish)),
                Some(Cause::FailBack).filter(|_| elsewhere(self.ideal)),
            ],
            Standing::Dead => [None; 3],
        };
        let possible =
            |cause: &Cause| roster.rows.iter().any(|it| self.permits(*cause, holder, it));
        causes.into_iter().flatten().find(possible)
    }

    fn why_it_stays(self, roster: &Roster<'_>, holder: &Row<'_>) -> Option<Why> {
        let others = roster.rows.iter().filter(|it| it.name != holder.name);
        let others = others.filter(|it| it.may_take(self.vip)).map(|it| it.standing);
        let unmet = || self.wish.filter(|it| *it != holder.name).cloned().map(Why::Unmet);
        match (holder.standing, others.min()) {
            (Standing::Free, _) if !holder.fitness.sick => unmet(),
            (Standing::Free, Some(Standing::Free)) => Some(Why::AllSick),
            (Standing::Drained, Some(_)) => Some(Why::AllDrained),
            (Standing::Free | Standing::Drained | Standing::Leaving, _) => Some(Why::Alone),
            (Standing::Dead, _) => None,
        }
    }
}
