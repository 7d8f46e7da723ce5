//! Operators who wait for an answer.

use std::collections::BTreeMap;

use smol::channel::Sender;

use crate::engine::Input;
use crate::io::serve::Order;
use crate::model::RequestId;

#[derive(Default)]
pub(super) struct Operators {
    waiting: BTreeMap<RequestId, Sender<Result<String, String>>>,
    asked: u32,
}

impl Operators {
    pub fn take(&mut self, order: Order) -> Input {
        self.waiting.retain(|_, it| !it.is_closed());
        self.asked = self.asked.wrapping_add(1);
        let request = RequestId(self.asked);
        self.waiting.insert(request, order.reply);
        Input::Order { request, call: order.call }
    }

    /// Who asked may be gone.
    pub fn answer(&mut self, request: RequestId, outcome: Result<String, String>) {
        if let Some(reply) = self.waiting.remove(&request) {
            let _ = reply.try_send(outcome);
        }
    }
}
