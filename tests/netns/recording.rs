//! What a daemon records is decided again as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Scenario;
use crate::lab::cluster::Cluster;
use crate::lab::daemon::log_of;
use crate::lab::net::{self, Lan};
use crate::outcome::takeover;

pub const SCENARIOS: &[Scenario] =
    &[("record_replay", record_replay), ("record_continued", record_continued)];

const SOON: Duration = Duration::from_secs(5);

fn record_replay(cluster: &mut Cluster<'_>) -> String {
    let files = ["n1", "n2"].map(|it| fresh(cluster, it));
    cluster.set("edgevip_record", &files[0].display().to_string());
    let watch = cluster.settle("n1", &[]);
    cluster.set("edgevip_record", &files[1].display().to_string()).start("n2");
    cluster.follows("n2", "n1");
    takeover(cluster, &watch, "n1", |_| net::unplug("n1", Lan::Clients));
    net::mend("n1", Lan::Clients);
    cluster.follows("n1", "n2");
    takeover(cluster, &watch, "n2", |it| _ = it.signal("n2", Signal::SIGTERM));
    cluster.signal("n1", Signal::SIGTERM);
    let mut decisions = Vec::new();
    for (node, file) in ["n1", "n2"].into_iter().zip(&files) {
        assert!(cluster.ended(node, SOON).success(), "{node} ends badly");
        let text = replayed(cluster, file);
        assert_eq!(text, replayed(cluster, file), "{node} decides otherwise the second time");
        let (again, then) = (decided_again(&text), decided(&log_of(node)));
        assert!(then.len() >= 3, "{node} said too little: {then:?}");
        assert_eq!(again, then, "{node} decides otherwise than it did");
        assert_eq!(text.lines().last(), Some("    \"Exit\""), "{node} ends otherwise");
        decisions.push(format!("{node} {}", then.len()));
    }
    let inputs = truncated(cluster, &files[0]);
    format!("the same decisions: {}; {inputs} whole inputs of a torn file", decisions.join(", "))
}

/// What stands before a tear is replayed, and the tear is named. Returns how many inputs.
fn truncated(cluster: &Cluster<'_>, file: &Path) -> usize {
    let whole = fs::read_to_string(file).expect("it was recorded");
    let told = replayed(cluster, file);
    let torn = file.with_extension("torn");
    let lines = whole.lines().count();
    let at = whole.trim_end().rfind('\n').expect("there are lines") + 20;
    fs::write(&torn, &whole[..at]).expect("/run is ours");
    let output = replay(cluster, &torn);
    let (said, why) = (words(&output.stdout), words(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{why}");
    assert!(why.contains(&format!("line {lines}")) && why.contains(".torn"), "unclear: {why}");
    assert!(told.starts_with(&said) && !said.is_empty(), "what is whole is told otherwise");

    fs::write(&torn, &whole[..at - 20]).expect("/run is ours");
    let said = replayed(cluster, &torn);
    assert!(told.starts_with(&said), "what is whole is told otherwise");
    let headless = whole.splitn(3, '\n').last().expect("there are lines");
    fs::write(&torn, &headless[headless.find("{\"now\"").expect("inputs")..]).expect("ours");
    let output = replay(cluster, &torn);
    let why = words(&output.stderr);
    assert!(output.status.code() == Some(2) && why.contains("no header"), "unclear: {why}");
    said.lines().filter(|it| !it.starts_with("    ")).count()
}

/// A process died amid a line; the next one goes on in the same file.
fn record_continued(cluster: &mut Cluster<'_>) -> String {
    let file = fresh(cluster, "n1");
    cluster.set("edgevip_record", &file.display().to_string());
    cluster.settle("n1", &[]);
    cluster.kill("n1");
    let whole = fs::read_to_string(&file).expect("it was recorded");
    fs::write(&file, &whole[..whole.len() - 10]).expect("/run is ours");
    let _watch = cluster.settle("n1", &[]);
    cluster.signal("n1", Signal::SIGTERM);
    cluster.ended("n1", SOON);
    let output = replay(cluster, &file);
    let (said, why) = (words(&output.stdout), words(&output.stderr));
    let claims =
        said.matches(&format!("{{\"Tell\":{{\"Acquired\":\"{}\"}}}}", cluster.vip)).count();
    assert_eq!(claims, 2, "what the second process recorded is not replayed: {why}");
    assert_eq!(said.lines().last(), Some("    \"Exit\""), "{why}");
    "both processes are replayed".into()
}

fn fresh(cluster: &Cluster<'_>, node: &str) -> PathBuf {
    let file = PathBuf::from(format!("/run/{}-{node}.record", cluster.lease));
    _ = fs::remove_file(&file);
    file
}

fn replay(cluster: &Cluster<'_>, file: &Path) -> Output {
    let mut command = Command::new(&cluster.lab.program);
    command.arg("replay").arg(file).output().expect("the program runs")
}

/// What a replay says that must succeed.
fn replayed(cluster: &Cluster<'_>, file: &Path) -> String {
    let output = replay(cluster, file);
    assert!(output.status.success(), "{}: {}", output.status, words(&output.stderr));
    words(&output.stdout)
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Who holds the Lease, and who answers, as a daemon's log has it.
fn decided(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|it| it.split_once(" INFO ")).map(|it| it.1);
    let told = lines.filter_map(|it| {
        let holder = it.split_once(" holds the Lease").map(|it| it.0);
        let holder = holder.filter(|it| !it.starts_with("not answering"));
        if it.starts_with("answering for ") {
            Some("acquired".into())
        } else if it.starts_with("no longer answering for ") {
            Some("released".into())
        } else {
            holder.map(|it| it.trim().to_string())
        }
    });
    told.collect()
}

/// The same of a replay.
fn decided_again(replay: &str) -> Vec<String> {
    let told = replay.lines().filter_map(|it| {
        let notice = it.strip_prefix("    {\"Tell\":{\"")?;
        let (what, of) = notice.split_once("\":")?;
        match what {
            "Acquired" => Some("acquired".to_string()),
            "Released" => Some("released".into()),
            "Holder" if of.starts_with("null") => Some("nobody".into()),
            "Holder" => of.split('"').nth(1).map(str::to_string),
            _ => None,
        }
    });
    told.collect()
}
