//! A step, and how it reads.

use std::fmt::{self, Display, Formatter};

use super::world::NAMES;

/// What happens next. Members are told by their places.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Tick,
    /// A holder, assigned in this epoch, asks.
    Ask(usize, u8),
    /// A hold, sent so long ago, comes to a voter, which promises or not.
    Hold {
        of: usize,
        ago: u8,
        at: usize,
        promised: bool,
        earlier_life: bool,
    },
    /// A voter answers what it kept.
    Due {
        at: usize,
        to: usize,
    },
    /// Answers to a hold come, and entitle for so long.
    Answers {
        to: usize,
        ago: u8,
        left: u8,
    },
    /// A holder gives up.
    Stop(usize),
    /// The kernel does what it is told next: opens for so long, or closes.
    Kernel(usize, u8),
    /// The release is told.
    Silent(usize),
    /// A release comes to a voter.
    Release {
        of: usize,
        at: usize,
        earlier_life: bool,
    },
    Restart(usize),
    /// The process stops in order, and starts again.
    Farewell(usize),
    /// A process has closed what was open.
    Boot(usize),
    /// A configuration comes to a member.
    Append(usize, u8),
    /// Another leader is elected by these.
    Elect(u8),
    /// A decision comes to a member: the epoch, and the holder.
    Hear(usize, u8, usize),
}

impl Display for Act {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = |n: usize| NAMES[n];
        let life = |earlier: bool| if earlier { "an earlier life of " } else { "" };
        match *self {
            Self::Tick => write!(f, "a tick passes"),
            Self::Ask(h, 0) => write!(f, "{} asks all for the VIP", name(h)),
            Self::Ask(h, epoch) => write!(f, "{} asks all for the VIP in epoch {epoch}", name(h)),
            Self::Hold { of, ago, at, promised, earlier_life } => {
                let does = if promised { "promises" } else { "refuses" };
                let (at, of) = (name(at), name(of));
                write!(f, "{at} {does} what {}{of} asked {ago} ticks ago", life(earlier_life))
            }
            Self::Due { at, to } => write!(f, "{} answers the kept hold of {}", name(at), name(to)),
            Self::Answers { to, ago, left } => {
                write!(f, "{} hears the answers to {ago} ticks ago: {left} are left", name(to))
            }
            Self::Stop(h) => write!(f, "{} gives up", name(h)),
            Self::Kernel(h, 1) => write!(f, "{}'s kernel closes", name(h)),
            Self::Kernel(h, 2) => write!(f, "{}'s kernel comes too late to open", name(h)),
            Self::Kernel(h, n) => write!(f, "{}'s kernel opens for {} ticks", name(h), n - 2),
            Self::Silent(h) => write!(f, "{} says that it released", name(h)),
            Self::Release { of, at, earlier_life } => {
                write!(f, "{} hears the release of {}{}", name(at), life(earlier_life), name(of))
            }
            Self::Restart(n) => write!(f, "{} restarts, and forgets", name(n)),
            Self::Farewell(n) => write!(f, "{} stops in order, and starts", name(n)),
            Self::Boot(h) => write!(f, "{} closes what was open before it started", name(h)),
            Self::Append(n, c) => write!(f, "{} appends configuration {c}", name(n)),
            Self::Elect(set) => {
                let by = (0..NAMES.len()).filter(|n| set >> n & 1 == 1);
                write!(f, "another leader is elected by {}", by.map(name).collect::<String>())
            }
            Self::Hear(n, epoch, h) => {
                write!(f, "{} hears that epoch {epoch} is {}'s", name(n), name(h))
            }
        }
    }
}
