//! A lease that is given back.

use super::asking::Asking;
use crate::engine::dhcp::Turn;
use crate::model::{Dhcp6Kind, Dhcp6Message, Instant};

/// RFC 8415 §18.2.7: said until a server has heard it, four times at most. What it is about is
/// nobody's any more.
#[derive(Clone, Debug)]
pub(crate) struct Parting {
    message: Dhcp6Message,
    asking: Asking,
}

impl Parting {
    /// It has been said once.
    pub(super) fn new(message: Dhcp6Message, asking: Asking) -> Self {
        Self { message, asking }
    }

    /// Says it again, if that is due.
    pub fn tick(&mut self, turn: &mut Turn<'_, Dhcp6Message>) {
        if self.asking.again_at <= turn.now && !self.is_over() {
            self.message.elapsed = Some(self.asking.elapsed(turn.now));
            turn.out.push(self.message.clone());
            self.asking.was_sent(turn);
        }
    }

    /// Whether this is the answer. Whatever it says, the server has heard.
    pub fn awaits(&self, answer: &Dhcp6Message) -> bool {
        let of_us = (answer.xid, &answer.client) == (self.message.xid, &self.message.client);
        of_us && answer.kind == Dhcp6Kind::Reply
    }

    /// Whether it is of this client.
    pub fn is_of(&self, duid: &[u8]) -> bool {
        self.message.client == duid
    }

    pub fn is_over(&self) -> bool {
        self.asking.is_in_vain()
    }

    pub fn deadline(&self) -> Instant {
        self.asking.again_at
    }
}
