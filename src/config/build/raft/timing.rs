//! How long things take in a quorum, and what fits together.

use std::time::Duration;

use crate::config::sources::Settings;
use crate::config::{FenceSetting, Notes, values};

/// How long things take.
pub(super) struct Timing {
    pub heartbeat: Duration,
    pub promise: Duration,
    pub step: Duration,
    pub spread: Duration,
}

/// What a datagram and those who handle it take on a bad day.
const ON_THE_WAY: f64 = 5.0;
/// A holder stops this part of a promise after it asked for it (fencing, section 5).
const TRUSTED: f64 = 0.84;
/// Without the fence, a kernel may let go of an address this late (fencing, section 2), and
/// what a holder does not trust of a promise must outlast that.
const LONG_ENOUGH_UNFENCED: Duration = Duration::from_millis(8125);
const LONGEST_PROMISE: Duration = Duration::from_secs(60);

/// The profile's times, and those that are given one by one.
pub(super) fn timing(settings: &Settings, fence: FenceSetting, notes: &mut Notes) -> Timing {
    let (heartbeat, promise, step) = match settings.text("vip_raft_profile") {
        "fast" => (8, 40, 8),
        "calm" => (40, 152, 12),
        "slow" => (150, 600, 40),
        _ => (30, 120, 12),
    };
    let time = |name, millis| {
        values::brief(settings.text(name))
            .filter(|_| !settings.text(name).is_empty())
            .unwrap_or(Duration::from_millis(millis))
    };
    let (heartbeat, promise, step) = (
        time("vip_raft_heartbeat", heartbeat),
        time("vip_raft_promise", promise),
        time("vip_raft_step", step),
    );
    check_heartbeat(heartbeat, promise, notes);
    if promise > LONGEST_PROMISE {
        notes.fault("vip_raft_promise", millis(promise), "more than a minute; give 60000 or less");
    }
    if step < Duration::from_millis(1) || step > promise {
        let right =
            format!("not from 1 to vip_raft_promise ({}); give for example 12", millis(promise));
        notes.fault("vip_raft_step", millis(step), right);
    }
    if fence == FenceSetting::Off && promise < LONG_ENOUGH_UNFENCED {
        let right = "must be at least 8125 where edgevip_fence is off: the kernel ends addresses \
                     by whole seconds and up to 1.3 s late, which must be over before the others \
                     are free to answer";
        notes.fault("vip_raft_promise", millis(promise), right);
    }
    Timing { heartbeat, promise, step, spread: step / 2 }
}

fn check_heartbeat(heartbeat: Duration, promise: Duration, notes: &mut Notes) {
    let (h, d) = (heartbeat.as_secs_f64() * 1e3, promise.as_secs_f64() * 1e3);
    let least = |beats: f64| ((beats * h + ON_THE_WAY) / TRUSTED).ceil();
    if heartbeat < Duration::from_millis(2) {
        notes.fault("vip_raft_heartbeat", millis(heartbeat), "less than 2; give for example 8");
    } else if d < least(2.0) {
        let fits = ((TRUSTED * d - ON_THE_WAY) / 2.0).floor();
        let other = match fits >= 2.0 {
            true => format!(", or a vip_raft_heartbeat of at most {fits}"),
            false => String::new(),
        };
        let right = format!(
            "one lost heartbeat would end it: 0.84 of it must outlast two heartbeats of {h} ms and \
             5 ms on the way; give at least {}{other}",
            least(2.0)
        );
        notes.fault("vip_raft_promise", millis(promise), right);
    } else if d < least(3.0) {
        notes.warnings.push(format!(
            "vip_raft_promise={}: outlasts one lost heartbeat of {h} ms, not two; for two give at \
             least {}",
            millis(promise),
            least(3.0)
        ));
    }
}

fn millis(it: Duration) -> f64 {
    it.as_secs_f64() * 1e3
}
