//! Questions in datagrams, asked again until they are answered.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::end;
use crate::io::clock;

/// RFC 6886 §3.1: the first wait, which then doubles.
const FIRST: Duration = Duration::from_millis(250);
/// The last waits two seconds.
const TRIES: u32 = 4;
/// Where nobody need be there.
const FEW_TRIES: u32 = 2;
/// RFC 6887 §7: no answer is longer.
const LONGEST: usize = 1100;

/// Asks from this address, and waits for what is an answer.
pub(super) fn ask(
    from: IpAddr,
    server: SocketAddr,
    question: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    ask_times(TRIES, from, server, question, is_answer)
}

/// The same, where there may be nobody.
pub(super) fn ask_briefly(
    from: IpAddr,
    server: SocketAddr,
    question: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    ask_times(FEW_TRIES, from, server, question, is_answer)
}

fn ask_times(
    tries: u32,
    from: IpAddr,
    server: SocketAddr,
    question: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, String> {
    let failed = |it: std::io::Error| match it.kind() {
        ErrorKind::ConnectionRefused => format!("{server} is not there"),
        _ => format!("cannot ask {server} from {from}: {it}"),
    };
    // Only what comes from there is heard.
    let socket = UdpSocket::bind(end(from)).map_err(failed)?;
    socket.connect(server).map_err(failed)?;
    let mut wait = FIRST;
    let mut answer = [0; LONGEST];
    for _ in 0..tries {
        socket.send(question).map_err(failed)?;
        let until = clock::now() + wait;
        wait *= 2;
        loop {
            let left = until.saturating_since(clock::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left)).map_err(failed)?;
            match socket.recv(&mut answer) {
                Ok(length) if is_answer(&answer[..length]) => return Ok(answer[..length].to_vec()),
                Ok(_) => {}
                Err(it) if matches!(it.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(it) if it.kind() == ErrorKind::Interrupted => {}
                Err(it) => return Err(failed(it)),
            }
        }
    }
    Err(format!("{server} does not answer"))
}
