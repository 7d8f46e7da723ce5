//! In the place of edgevip: of all that run, the one with the lock has the VIP. Its other half
//! serves on while it hangs, and takes the VIP away when it is dead.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use edgevip::io::netlink::links::{Links, index};
use edgevip::io::netlink::survey;
use edgevip::io::packet::Sender;
use edgevip::model::{Frame, NetworkChange};

/// So long nobody has the VIP when its holder is gone.
pub const PAUSE: Duration = Duration::from_millis(80);

pub fn run(word: &str) {
    match word {
        "manager" => {
            let mut command = Command::new(env::current_exe().unwrap());
            let mut half =
                command.args(["stand-in", "half"]).stdin(Stdio::piped()).spawn().unwrap();
            // Open until this process ends, however it does.
            let _life = half.stdin.take();
            half.wait().unwrap();
        }
        "half" => half(),
        _ => {}
    }
}

fn half() {
    thread::spawn(|| {
        _ = std::io::stdin().read_to_end(&mut Vec::new());
        withdraw();
        std::process::exit(0);
    });
    let lock = File::create("/run/lock").unwrap();
    lock.lock().unwrap();
    thread::sleep(PAUSE);
    let NetworkChange::Snapshot { links, .. } = survey::everything().unwrap() else { panic!() };
    let link = links.iter().find(|it| it.name.0 == "eth0").unwrap();
    let IpAddr::V4(vip) = vip() else { panic!() };
    Links::open().unwrap().give(link.index, vip, 32).unwrap();
    let frame = Frame::Announce { mac: link.mac.unwrap(), ip: vip.into() };
    Sender::open().unwrap().send(link.index, &frame).unwrap();
    loop {
        thread::park();
    }
}

fn withdraw() {
    let IpAddr::V4(vip) = vip() else { panic!() };
    // It may have got no further than the lock.
    _ = Links::open().unwrap().take(index("eth0").unwrap(), vip, 32);
}

fn vip() -> IpAddr {
    env::var("address").unwrap().parse().unwrap()
}
