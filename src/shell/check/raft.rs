//! What a member of a quorum needs of its host.

use std::net::IpAddr;

use super::Findings;
use crate::config::RaftSettings;
use crate::io::host;
use crate::io::netlink::survey;
use crate::model::NetworkChange;

impl Findings {
    pub(super) fn look_at_quorum(&mut self, raft: &RaftSettings) {
        let names: Vec<_> = raft.members.keys().map(|it| &*it.0).collect();
        let of = if raft.from_nodes { "the Nodes".to_owned() } else { names.join(", ") };
        match &raft.discover {
            None => self.good.push(format!("raft: {} of {of}", raft.me)),
            Some(it) => self.good.push(format!(
                "raft: {} finds others on its link by port {}; {} of them found",
                raft.me,
                raft.address.port(),
                it.voters
            )),
        }
        if let Some(keys) = &raft.keys {
            self.good.push(format!("vip_keyfile: there is a key in {}", keys.file.display()));
        }
        match survey::everything() {
            // It has what address its link has, or will have.
            Ok(_) if raft.address.ip().is_unspecified() => {}
            Ok(it) if is_here(raft.address.ip(), &it) => {
                self.good.push(format!("vip_localpeer: {} is on this host", raft.address.ip()));
            }
            Ok(_) => self.warnings.push(format!(
                "vip_localpeer: {} is not on this host yet; until it is, no member hears this one",
                raft.address.ip()
            )),
            Err(why) => self.warnings.push(format!("vip_localpeer: {why}")),
        }
        let folder = raft.state_dir.display();
        match host::may_write_in(&raft.state_dir) {
            Ok(()) => self.good.push(format!("edgevip_state_dir: {folder} can be written")),
            Err(why) => self.faults.push(format!(
                "edgevip_state_dir={folder}: {why}; give a folder that outlives a restart and that \
                 this user can write, or run as root"
            )),
        }
    }
}

fn is_here(ip: IpAddr, network: &NetworkChange) -> bool {
    let NetworkChange::Snapshot { addresses, .. } = network else {
        return false;
    };
    ip.is_loopback() || addresses.iter().any(|it| it.ip == ip)
}
