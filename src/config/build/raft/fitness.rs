//! What is asked and run for whether this node is well.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Around;
use crate::config::build::filled;
use crate::config::sources::{Settings, Sources};
use crate::config::{CheckSettings, HealthSettings, Notes, VipSetting, values};

/// What to ask; with nothing said, the API server on this node.
pub(super) fn health(
    settings: &Settings,
    sources: &Sources<'_>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> Option<HealthSettings> {
    const ADDRESS: &str = "control_plane_health_check_address";
    const PERIOD: &str = "control_plane_health_check_period_seconds";
    const CA: &str = "control_plane_health_check_ca_path";
    let ca = filled(settings, CA).map(PathBuf::from);
    let url = match settings.text(ADDRESS) {
        // YAML takes off for false.
        "off" | "false" => return None,
        "" if !settings.is_on("cp_enable") => return None,
        "" => format!("https://127.0.0.1:{}/livez", settings.text("port")),
        text => text.to_owned(),
    };
    match host(&url) {
        None => {
            let right = "not a URL of http or https; give one such as \
                         https://127.0.0.1:6443/livez, or off";
            notes.fault(ADDRESS, &url, right);
        }
        Some(host) => {
            let ip = host.parse::<IpAddr>().ok();
            if ip.is_some_and(|it| around.vips.contains(&VipSetting::Address(it))) {
                let right = "the VIP is answered by whoever carries it; give this node's own";
                notes.fault(ADDRESS, &url, right);
            }
            let here = host == "localhost" || ip.is_some_and(|it| it.is_loopback());
            if ca.is_none() && !here && url.starts_with("https") {
                let why = "whoever answers is believed";
                notes.warnings.push(format!("{ADDRESS}={url}: {why}; give {CA}"));
            }
        }
    }
    if let Some(Err(why)) = ca.as_ref().map(|it| (sources.read)(it)) {
        let why = format!("cannot be read ({why}), and until it can this node counts as ill");
        notes.warnings.push(format!("{CA}={}: {why}", settings.text(CA)));
    }
    let time = |name| values::duration(settings.text(name)).unwrap_or_default();
    let interval = time(PERIOD);
    if interval < SHORTEST_PERIOD {
        let right = "more often than the server can be asked; give 100ms or more";
        notes.fault(PERIOD, settings.text(PERIOD), right);
    }
    let threshold = values::whole(settings.text("control_plane_health_check_failure_threshold"));
    Some(HealthSettings {
        url,
        verify: ca.is_some(),
        ca,
        interval,
        timeout: or(time("control_plane_health_check_timeout_seconds"), interval),
        fall: threshold.and_then(|it| it.max(1).try_into().ok()).unwrap_or(1),
    })
}

const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// The host of a URL of http or https.
fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let at = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
    let (host, port) = match at.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => at.split_at(at.find(':').unwrap_or(at.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|it| it != 0),
        None => port.is_empty(),
    };
    let good = !host.is_empty() && port_is_good && !url.contains(char::is_whitespace);
    good.then_some(host)
}

/// What to run, if anything.
pub(super) fn check(settings: &Settings, notes: &mut Notes) -> Option<CheckSettings> {
    let command = filled(settings, "edgevip_check_command")?;
    let time = |name| values::duration(settings.text(name)).unwrap_or_default();
    let number = |name| values::whole(settings.text(name)).unwrap_or(1);
    let interval = time("edgevip_check_interval");
    if interval < SHORTEST_PERIOD {
        let right = "more often than commands can be run; give 100ms or more";
        notes.fault("edgevip_check_interval", settings.text("edgevip_check_interval"), right);
    }
    let timeout = or(time("edgevip_check_timeout"), interval);
    if timeout > interval {
        let right = format!("longer than edgevip_check_interval ({interval:?}); give that at most");
        notes.fault("edgevip_check_timeout", settings.text("edgevip_check_timeout"), right);
    }
    Some(CheckSettings {
        command,
        interval,
        timeout,
        rise: number("edgevip_check_rise").try_into().unwrap_or(1),
        fall: number("edgevip_check_fall").try_into().unwrap_or(1),
        weight: number("edgevip_check_weight").try_into().unwrap_or(1),
    })
}

fn or(time: Duration, instead: Duration) -> Duration {
    if time.is_zero() { instead } else { time }
}
