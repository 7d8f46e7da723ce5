//! SOAP over a connection that comes from the VIP.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::end;
use crate::io::clock;
use crate::model::UpnpControl;
use crate::wire::gateway::soap::{self, Action, Answer};

/// Until the connection stands.
const CONNECT: i64 = 3;
/// Until all of an answer is there.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks a service of a device for an action.
pub(super) fn call(
    from: IpAddr,
    control: &UpnpControl,
    action: &Action<'_>,
) -> Result<Answer, String> {
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        format!("cannot {what} the gateway at {} from {from}: {why}", control.address)
    };
    let mut stream = open(from, control).map_err(|it| failed("reach", &it))?;
    stream.set_write_timeout(Some(ANSWER)).map_err(|it| failed("ask", &it))?;
    stream.write_all(&soap::request(control, action)).map_err(|it| failed("ask", &it))?;
    let until = clock::now() + ANSWER;
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while !soap::is_whole(&bytes) {
        let left = until.saturating_since(clock::now());
        if left.is_zero() || bytes.len() > soap::LONGEST {
            return Err(failed("hear", &"its answer does not end"));
        }
        stream.set_read_timeout(Some(left)).map_err(|it| failed("hear", &it))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => bytes.extend(&part[..length]),
            Err(it) if it.kind() == ErrorKind::Interrupted => {}
            Err(it) => return Err(failed("hear", &it)),
        }
    }
    soap::read(&bytes).map_err(|it| failed("understand", &it))
}

fn open(from: IpAddr, control: &UpnpControl) -> nix::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(end(from)))?;
    // It bounds the connection, too.
    setsockopt(&fd, SendTimeout, &TimeVal::seconds(CONNECT))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(control.address))?;
    Ok(TcpStream::from(fd))
}
