//! Examples.

/// A configuration file in kube-vip's words.
pub const CONFIG: &str = "\
# edgevip manager --config-file FILE, where FILE ends in .yaml; `edgevip help` has all settings.
enableARP: true
enableControlPlane: true
enableServices: true
interface: eth0
address: 192.0.2.40
# Members elect among themselves. Without what follows, a Kubernetes Lease elects.
localPeer:
  id: n1
  address: 192.0.2.1
  port: 10000
remotePeers:
- id: n2
  address: 192.0.2.2
  port: 10000
- id: n3
  address: 192.0.2.3
  port: 10000
# The same on all members: openssl rand -hex 32
keyFile: /etc/edgevip/key
";

/// The flags of the sample of a Pod.
pub(super) const FLAGS: [(&str, &str); 6] = [
    ("interface", "eth0"),
    ("address", "192.0.2.40"),
    ("controlplane", "true"),
    ("services", "true"),
    ("arp", "true"),
    ("leaderElection", "true"),
];
