//! What becomes of what was asked for and cannot be had.

use super::settings::{self, Setting, Standing};
use super::sources::{Origin, Settings};
use super::{Notes, values};

/// Refuses, warns of, or mentions what was written and has no effect.
pub fn judge(settings: &Settings, notes: &mut Notes) {
    let mut idle = Vec::new();
    let mut dead = Vec::new();
    for setting in settings::all().filter(|it| is_asked_for(it, settings)) {
        let name = setting.name();
        match setting.standing {
            Standing::Built => {}
            Standing::Asks(what) => {
                let text = settings.text(name);
                notes.fault(
                    name,
                    text,
                    format!("{what} is not in this version; {}", way_out(setting)),
                );
            }
            Standing::Parameter(of) => idle.push(format!("{name} ({of})")),
            Standing::Dead(why) => dead.push(format!("{name} ({why})")),
            Standing::Retired(instead) => notes.warnings.push(format!("{name}: {instead}")),
        }
    }
    if !idle.is_empty() {
        let idle = idle.join(", ");
        notes.warnings.push(format!("without effect, for it is not in this version: {idle}"));
    }
    if !dead.is_empty() {
        notes.infos.push(format!("without effect: {}", dead.join(", ")));
    }
}

/// Whether it is set, and to something else than what holds anyway.
fn is_asked_for(setting: &Setting, settings: &Settings) -> bool {
    let value = settings.get(setting.name());
    let (written, default) = (values::bool(&value.text), values::bool(setting.default));
    value.origin != Origin::Default
        && value.text != setting.default
        && (written.is_none() || written != default)
}

fn way_out(setting: &Setting) -> &'static str {
    match setting.name() {
        "bgp_enable" | "vip_routingtable" | "vip_wireguard" => "announce by vip_arp=true",
        "vip_ddns" => "give an address that is fixed",
        "leaderElectionType" | "vip_peers" | "vip_localpeer" => {
            "leave it out to elect by a Kubernetes Lease"
        }
        _ => "leave it out",
    }
}
