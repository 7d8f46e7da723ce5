use std::path::PathBuf;

use super::*;
use crate::config::VipSetting;

const GLOBAL: &str = "config edgevip 'global'\n option interface 'lan'\n option discover '3'\n";
const VIP: &str = "config vip 'router'\n option address '192.0.2.40'\n";

#[test]
fn a_router_with_found_members_needs_few_lines() {
    let it = translated(&format!("{GLOBAL}{VIP}")).unwrap();
    let expected = "# Made of /etc/config/edgevip, and made anew when that changes.\n\
                    address = \"192.0.2.40\"\n\
                    edgevip_notify = \"/usr/libexec/edgevip/tell\"\n\
                    # A change of what follows needs a restart.\n\
                    vip_arp = \"true\"\n\
                    cp_enable = \"true\"\n\
                    vip_interface = \"br-lan\"\n\
                    prometheus_server = \"\"\n\
                    vip_raft_discover = \"3\"\n\
                    vip_keyfile = \"/etc/edgevip/key\"\n\
                    edgevip_state_dir = \"/etc/edgevip/state\"\n\
                    control_plane_health_check_address = \"off\"\n";
    assert_eq!(it.toml, expected);
    assert_eq!(it.warnings, [""; 0]);
}

#[test]
fn what_is_made_is_understood_as_it_was_meant() {
    let text = "config edgevip 'global'\n option name 'N1'\n option device 'eth1'\n\
                option logging '-4'\n option vip_raft_profile 'slow'\n option edgevip_notify 'a \"b\"'\n\
                option keyFile '/own/key'\n option prometheus_server ':2112'\n\
                option vip_skipdad 'on'\n option enabled '0'\n\
                config vip\n list address '192.0.2.40'\n list address 'fd00::40'\n\
                config vip off\n option enabled '0'\n option address '192.0.2.41'\n option odd ''\n\
                config vip b\n option address '192.0.2.42, 192.0.2.43'\n\
                config member n1\n option address '192.0.2.1'\n\
                config member\n option name 'n2'\n option address '192.0.2.2'\n option port '1'\n\
                config member w\n option address '192.0.2.3'\n option witness '1'\n";
    let resolved = resolved(&translated(text).unwrap().toml);
    let config = resolved.config;
    let vips = ["192.0.2.40", "fd00::40", "192.0.2.42", "192.0.2.43"];
    let vips = vips.map(|it| VipSetting::Address(it.parse().unwrap()));
    assert_eq!(config.vips, vips);
    assert_eq!((&*config.node.0, config.log_level, config.skip_dad), ("n1", -4, true));
    assert_eq!(config.link.unwrap().0, "eth1");
    assert_eq!(config.notify.as_deref(), Some("a \"b\""));
    assert_eq!(config.metrics.as_deref(), Some(":2112"));
    let raft = config.raft.unwrap();
    assert_eq!(raft.state_dir, PathBuf::from(STATE));
    assert_eq!(raft.keys.unwrap().file, PathBuf::from("/own/key"));
    let members: Vec<_> = raft
        .members
        .iter()
        .map(|(name, it)| format!("{name} {} {:?}", it.address, it.role))
        .collect();
    let expected =
        ["n1 192.0.2.1:10000 Voter", "n2 192.0.2.2:1 Voter", "w 192.0.2.3:10000 Witness"];
    assert_eq!(members, expected);
}

#[test]
fn a_fault_names_section_option_value_and_what_would_be_right() {
    let with = |more: &str| format!("{GLOBAL}{VIP}{more}");
    let cases = [
        (
            with("config vip x\n option address '192.0.2.400'"),
            "edgevip.x.address=192.0.2.400: neither an IP address nor a DNS name",
        ),
        (
            with("config vip\n option adress '192.0.2.41'"),
            "edgevip.@vip[1].adress=192.0.2.41: no such option; did you mean address?",
        ),
        (
            with("config vip\n option adress '192.0.2.41'"),
            "edgevip.@vip[1]: has no address; give one: option address '192.0.2.40'",
        ),
        (with("config vipp a"), "edgevip.a=vipp: no such kind of section; did you mean vip?"),
        (
            with("config vip a\n option address 1.2.3.4\n option enabled 'maybe'"),
            "edgevip.a.enabled=maybe: neither on nor off; give 1 or 0",
        ),
        (
            with("config member\n option address '192.0.2.1'"),
            "edgevip.@member[0]: has no name; give one: option name 'n1'",
        ),
        (
            with("config member a"),
            "edgevip.a: has no address; give one: option address '192.0.2.1'",
        ),
        (with("config member a\n option address 'here'"), "edgevip.a.address=a:here:10000: "),
        (with("config edgevip 'global'\n option discover '30'"), "edgevip.global.discover=30: "),
        (
            with("config edgevip 'global'\n option vip_leasduration '3'"),
            "edgevip.global.vip_leasduration=3: no such option; did you mean vip_leaseduration?",
        ),
        (
            with("config edgevip 'global'\n option interface 'wan'"),
            "edgevip.global.interface=wan: no network with a device; there are lan (br-lan)",
        ),
        (
            with("config edgevip 'global'\n option address '192.0.2.1'"),
            "edgevip.global.address=192.0.2.1: each VIP has a section: config vip, option address",
        ),
        (
            with("config edgevip 'global'\n option vip_interface 'eth0'"),
            "edgevip.global.vip_interface=eth0: option interface has the network",
        ),
        (
            with("config edgevip 'global'\n option bgp_enable '1'"),
            "edgevip.global.bgp_enable=true: ",
        ),
        (
            with("config edgevip 'global'\n option keyfile '/none'"),
            "edgevip.global.keyfile=/none: cannot be read",
        ),
        (
            with("config edgevip 'global'\n option config_file '/own.toml'"),
            "edgevip.router.address: all settings are in /own.toml",
        ),
        (with("option"), "edgevip, line 6: not understood"),
        (GLOBAL.to_owned(), "edgevip: no VIP is enabled; give one: config vip"),
    ];
    for (text, expected) in cases {
        let faults = translated(&text).unwrap_err().to_string();
        assert!(faults.lines().any(|it| it.starts_with(expected)), "{text}\n{faults}");
    }
}

#[test]
fn a_file_of_ones_own_is_looked_at() {
    let own = "config edgevip 'global'\n option enabled 1\n option config_file '/own.toml'\n";
    let expected =
        "# A change of what follows needs a restart.\n# All settings are in \"/own.toml\".\n";
    assert_eq!(translated(own).unwrap().toml, expected);
    let faults = translated(&own.replace("own.toml", "bad.toml")).unwrap_err().to_string();
    assert!(faults.contains("edgevip: /bad.toml: address=nonsense!"), "{faults}");
    let faults = translated(&own.replace("own.toml", "none.toml")).unwrap_err().to_string();
    assert!(faults.contains("/none.toml: "), "{faults}");
}

#[test]
fn a_warning_is_handed_on() {
    let text = format!("{GLOBAL} option lb_port '1'\n{VIP}");
    let warnings = translated(&text).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.contains("lb_port")), "{warnings:?}");
}

fn translated(text: &str) -> Result<Translated, Faults> {
    let networks = BTreeMap::from([("lan".to_owned(), "br-lan".to_owned())]);
    from_uci(text, &networks, &sources(&read, BTreeMap::new()))
}

fn resolved(toml: &str) -> crate::config::Resolved {
    let file = |path: &Path| match path.to_str() {
        Some("/made.toml") => Ok(toml.to_owned()),
        _ => read(path),
    };
    let env = BTreeMap::from([("config_file".to_owned(), "/made.toml".to_owned())]);
    resolve(&sources(&file, env)).unwrap()
}

fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some(KEY | "/own/key") => Ok("0123456789abcdef".into()),
        Some("/own.toml") => Ok("vip_arp=true\ncp_enable=true\naddress=\"192.0.2.1\"".into()),
        Some("/bad.toml") => Ok("vip_arp=true\ncp_enable=true\naddress=\"nonsense!\"".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn sources<'a>(
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    env: BTreeMap<String, String>,
) -> Sources<'a> {
    Sources { flags: Vec::new(), env, hostname: "here".into(), read, is_open: &|_| false }
}
