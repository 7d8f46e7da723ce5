//! Three nodes, a real Kubernetes API server and a client in one process tree: a VIP is
//! claimed, handed over and taken over before your eyes. `tests/first-light` builds and runs it.

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "each includer uses its own part")]
mod lab;

use std::time::Duration;

use edgevip::io::clock;
use lab::cluster::Cluster;
use lab::gap::{Gap, Seen};
use lab::net::NODES;
use lab::watch::Watch;
use lab::{Lab, millis, program, require, sandbox};
use nix::sys::signal::Signal;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn main() {
    sandbox::enter();
    require(&["ip", "nft", "openssl", "curl"]);
    println!("Starting three nodes, a client, etcd and a Kubernetes API server, all of them in");
    println!("namespaces that end with this program (Ctrl-C ends it at any time) ...\n");
    let began = clock::now();
    let built = std::env::current_exe().expect("/proc is mounted");
    let built = built.ancestors().nth(2).expect("target/release/examples").join("edgevip");
    let lab = Lab::start(program(&built.display().to_string()));
    println!("{:>7} ms  the API server is ready", millis(clock::now().saturating_since(began)));

    let mut cluster = Cluster::new(&lab, "first-light");
    let vip = cluster.vip;
    println!("\n1. edgevip starts on n1, n2 and n3, for the VIP {vip}\n");
    let watch = Watch::begin(vip);
    let since = clock::now();
    for node in NODES {
        cluster.start(node);
    }
    let first = watch.someone(LONG);
    print!("{}", watch.story(since));
    for node in NODES.into_iter().filter(|it| *it != first) {
        cluster.follows_within(node, &first, LONG);
    }
    lab::gap::reachable(vip, LONG);

    println!("\n2. SIGTERM to edgevip on {first}: a planned stop, handed over\n");
    let second = event(&cluster, &watch, &first, Signal::SIGTERM);

    println!("\n3. SIGKILL to edgevip on {second}: nobody is left there to clean up\n");
    let third = event(&cluster, &watch, &second, Signal::SIGKILL);

    println!("\n4. What {third} says of itself\n");
    let mut status = std::process::Command::new(&lab.program);
    print!("{}", lab::net::run(status.args(["status", "--instance", &third])));
    let two = watch.two_answered(since);
    println!("\nTwo nodes answered at the same time for {} ms.", millis(two));
}

/// Sends the signal, and tells who answered when and what the client lost.
fn event(cluster: &Cluster<'_>, watch: &Watch, holder: &str, signal: Signal) -> String {
    let gap = Gap::begin(cluster.vip);
    let since = cluster.signal(holder, signal);
    let heir = watch.other_than(&[holder], LONG);
    let Seen { sent, lost, longest, .. } = gap.end();
    print!("{}", watch.story(since));
    let worst = millis(longest);
    println!(
        "\n   the client lost {lost} of {sent} pings, 2 ms apart; the longest gap: {worst} ms"
    );
    heir
}
