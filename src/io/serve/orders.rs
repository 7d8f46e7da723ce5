use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use async_io::{Async, Timer};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, geteuid};
use smol::channel::Sender;
use smol::future;
use smol::io::AsyncWriteExt;

use super::{PATIENCE, limited, unix};
use crate::model::ClusterCall;

/// What an operator wants to be changed.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub call: ClusterCall,
    /// Takes one answer: what happened, or why nothing did. Without one in time the operator
    /// is told so; whether it came too late does not matter to whoever answers.
    pub reply: Sender<Result<String, String>>,
}

/// Asks a running instance to change something: what happened, or why nothing did.
pub fn order_socket(
    instance: &str,
    paths: &[PathBuf],
    call: &ClusterCall,
) -> io::Result<Result<String, String>> {
    let request = format!("{WORD}{}\n", serde_json::to_string(call)?);
    let answer = unix::ask(instance, paths, &request, WITHIN + PATIENCE + PATIENCE)?;
    let answer = answer.trim_end();
    match (answer.strip_prefix("ok "), answer.strip_prefix("error ")) {
        (Some(text), _) => Ok(Ok(text.to_owned())),
        (None, Some(why)) => Ok(Err(why.to_owned())),
        (None, None) => Err(io::Error::other(format!("not an answer to an order: {answer}"))),
    }
}

/// Orders that wait for an answer at one time.
pub(super) const MOST: usize = 4;
/// What an order begins with.
pub(super) const WORD: &str = "order ";
const WITHIN: Duration = Duration::from_secs(10);

/// The order in a line, if whoever is at the other end may give it.
pub(super) fn read(line: &[u8], stream: &Async<UnixStream>) -> Result<ClusterCall, String> {
    let credentials = getsockopt(stream.get_ref(), sockopt::PeerCredentials);
    let uid = credentials.map_err(|it| format!("cannot tell who asks: {it}"))?.uid();
    if !may(Uid::from_raw(uid), geteuid()) {
        return Err("only root and the daemon's own user may give orders".into());
    }
    let text = line.strip_prefix(WORD.as_bytes()).unwrap_or_default();
    serde_json::from_slice(text).map_err(|it| format!("not an order: {it}"))
}

fn may(who: Uid, own: Uid) -> bool {
    who.is_root() || who == own
}

/// Hands the order on, waits for what comes of it, and says so.
pub(super) async fn relay(
    stream: Async<UnixStream>,
    call: ClusterCall,
    orders: Sender<Order>,
    within: Option<Duration>,
) {
    let (reply, answer) = smol::channel::bounded(1);
    let outcome = match orders.try_send(Order { call, reply }) {
        Err(_) => Err("too many orders at one time".into()),
        Ok(()) => {
            let none = || Err("no answer".to_owned());
            let late = async {
                Timer::after(within.unwrap_or(WITHIN)).await;
                none()
            };
            future::or(async { answer.recv().await.unwrap_or_else(|_| none()) }, late).await
        }
    };
    tell(stream, outcome).await;
}

/// What came of an order, in one line.
pub(super) async fn tell(mut stream: Async<UnixStream>, outcome: Result<String, String>) {
    let line = match outcome {
        Ok(text) => format!("ok {text}"),
        Err(why) => format!("error {why}"),
    };
    let line = line.replace(char::is_control, " ") + "\n";
    drop(limited(PATIENCE, async { stream.write_all(line.as_bytes()).await }).await);
}

#[cfg(test)]
mod tests {
    use smol::channel::Receiver;

    use super::*;
    use crate::model::NodeName;

    #[test]
    fn root_and_the_daemons_own_user_may_order() {
        let [root, own, other] = [0, 7, 8].map(Uid::from_raw);
        assert!(may(root, own) && may(own, own) && may(root, root));
        assert!(!may(other, own) && !may(other, root));
    }

    #[test]
    fn an_answer_is_one_line_and_none_is_said_to_be_none() {
        type Reply = fn(Order);
        let cases: [(Reply, &str); 4] = [
            (|it| it.reply.try_send(Ok("n\nis drained".into())).unwrap(), "ok n is drained\n"),
            (|it| it.reply.try_send(Err("no".into())).unwrap(), "error no\n"),
            (drop, "error no answer\n"),
            (std::mem::forget, "error no answer\n"),
        ];
        for (reply, expected) in cases {
            assert_eq!(answered(1, reply), expected);
        }
        assert_eq!(answered(0, drop), "error too many orders at one time\n");
    }

    fn answered(room: usize, reply: fn(Order)) -> String {
        let (orders, received): (_, Receiver<Order>) = smol::channel::bounded(room.max(1));
        let call = || ClusterCall::Drain(NodeName("n".into()));
        if room == 0 {
            let reply = smol::channel::bounded(1).0;
            orders.try_send(Order { call: call(), reply }).unwrap();
        }
        let (server, mut client) = UnixStream::pair().unwrap();
        async_io::block_on(async {
            let server = Async::new(server).unwrap();
            let relay = relay(server, call(), orders, Some(Duration::from_millis(20)));
            let other = async {
                if room > 0 {
                    reply(received.recv().await.unwrap());
                }
            };
            future::zip(relay, other).await;
        });
        let mut text = String::new();
        io::Read::read_to_string(&mut client, &mut text).unwrap();
        text
    }
}
