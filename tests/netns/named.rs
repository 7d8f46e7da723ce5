//! Services that are reached by a DNS name.

use std::fs;
use std::process::Command;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::net::{has_address, run};
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::services::{SOON, at, forget, service, serving, told_of};

pub const SCENARIOS: &[Scenario] = &[("svc_named", svc_named)];

const HOSTS: &str = "/run/hosts";

fn was_looked_into() -> bool {
    let it = fs::metadata(HOSTS).expect("it was there");
    it.accessed().expect("this system knows") > it.modified().expect("this system knows")
}

/// What the name stands for is answered for, and what it stands for next.
fn svc_named(cluster: &mut Cluster<'_>) -> String {
    let (first, next) = ("10.77.0.240", "10.77.0.241");
    let stands_for = |ip: &str| fs::write(HOSTS, format!("{ip} web.example.org\n"));
    stands_for(first).expect("/run is ours");
    run(Command::new("mount").args(["--bind", HOSTS, "/etc/hosts"]));
    serving(cluster);
    cluster.start("n1");
    let watch = Watch::begin(first.parse().expect("an address"));
    let asks = at(&service(cluster, "web", "", &["n2"]), "web.example.org", cluster.vip);
    cluster.lab.api.apply(&asks);
    watch.only("n1", SOON);
    told_of(cluster, "web", "n1", first.parse().expect("an address"));
    let there = Watch::begin(next.parse().expect("an address"));
    stands_for(next).expect("/run is ours");
    there.only("n1", SOON);
    told_of(cluster, "web", "n1", next.parse().expect("an address"));
    assert!(wait_for(SOON, || !has_address("n1", first)));
    // It stands for nothing: what it stood for stays, after a look-up and until the next one.
    for _ in 0..2 {
        fs::write(HOSTS, "# nothing\n").expect("/run is ours");
        assert!(wait_for(SOON, was_looked_into), "nobody looks the name up");
    }
    there.only("n1", SOON);
    forget(cluster, &["web"]);
    there.nobody(SOON);
    run(Command::new("umount").arg("/etc/hosts"));
    format!("{first}, then {next}, which stays while the name cannot be looked up")
}
