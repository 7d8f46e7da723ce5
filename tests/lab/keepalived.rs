//! keepalived on the same nodes, for comparison.

use std::fs;
use std::net::IpAddr;

use super::daemon::Daemon;
use super::net::command_in;

/// Starts keepalived on a node: VRRPv3, no preemption, advertisements this many seconds apart.
pub fn start(node: &str, priority: u8, interval: &str, vip: IpAddr) -> Daemon {
    let config = format!("/run/keepalived-{node}.conf");
    let text = format!(
        "global_defs {{
  router_id {node}
  vrrp_version 3
  vrrp_garp_master_delay 1
}}
vrrp_instance lab {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority {priority}
  advert_int {interval}
  virtual_ipaddress {{
    {vip}/24 dev eth0
  }}
}}
"
    );
    fs::write(&config, text).expect("/run is ours");
    let mut command = command_in(node, "keepalived");
    command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file", &config]);
    for pid in ["pid", "vrrp_pid", "checkers_pid"] {
        let file = format!("/run/keepalived-{node}.{pid}");
        // What a killed one left behind would keep the next from starting.
        _ = fs::remove_file(&file);
        command.arg(format!("--{pid}")).arg(file);
    }
    Daemon::start(&format!("keepalived-{node}"), &mut command)
}
