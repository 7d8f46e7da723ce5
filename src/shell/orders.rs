//! What operators want to be changed for all members.

use smol::channel::Receiver;

use crate::io::serve::Order;

/// Without a quorum there is nothing that could be changed.
pub(super) async fn refuse(orders: Receiver<Order>) {
    while let Ok(Order { reply, .. }) = orders.recv().await {
        let why = "this node elects by a Kubernetes Lease; there are no members";
        let _ = reply.try_send(Err(why.into()));
    }
}
