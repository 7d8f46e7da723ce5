//! The daemons: how they are started, and the process of one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::enclosure::ROOM;
use super::net::{Host, NAMES, node_address, vips};
use crate::io::process::entropy;

/// What runs on the nodes.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// What stands before the command's own word.
    pub prefix: Vec<String>,
    /// Settings that each node gets.
    pub settings: Vec<(String, String)>,
}

impl Program {
    /// This very program, with so many VIPs.
    pub fn edgevip(count: u8, profile: Option<&str>) -> Self {
        let vips: Vec<_> = vips(count).iter().map(ToString::to_string).collect();
        let settings = [
            ("vip_arp", "true"),
            ("cp_enable", "true"),
            ("address", &vips.join(",")),
            ("vip_interface", "eth0"),
            ("vip_keyfile", KEY),
            ("control_plane_health_check_address", "off"),
            ("prometheus_server", ""),
        ];
        let profile = profile.map(|it| ("vip_raft_profile", it));
        let settings = settings.into_iter().chain(profile);
        let settings = settings.map(|(name, value)| (name.into(), value.into())).collect();
        Self { path: "/proc/self/exe".into(), prefix: Vec::new(), settings }
    }

    /// Writes what all nodes share.
    pub fn prepare(&self) -> Result<(), String> {
        let key: String = (0..4).map(|_| format!("{:016x}", entropy())).collect();
        std::fs::write(KEY, key + "\n").map_err(|it| format!("{KEY}: {it}"))?;
        std::fs::set_permissions(KEY, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(|it| format!("{KEY}: {it}"))
    }

    /// The command of these words, for a node.
    fn command(&self, words: &[&str], node: usize) -> Result<Command, String> {
        let name = NAMES[node];
        let member = |it: usize| format!("{}:{}:10000", NAMES[it], node_address(it));
        let others = (0..NAMES.len()).filter(|it| *it != node).map(member);
        let others = others.collect::<Vec<_>>().join(",");
        let room = format!("{ROOM}/{name}");
        let state = format!("{room}/state");
        std::fs::create_dir_all(&state).map_err(|it| format!("{state}: {it}"))?;
        let mut command = Command::new(&self.path);
        command
            .args(&self.prefix)
            .args(words)
            .env_clear()
            .envs(self.settings.iter().cloned())
            .envs([
                ("vip_localpeer", member(node).as_str()),
                ("vip_peers", &others),
                ("vip_nodename", name),
                ("instance_name", name),
                ("edgevip_state_dir", &state),
                ("RUNTIME_DIRECTORY", &room),
            ])
            .process_group(0)
            .stdin(Stdio::null());
        Ok(command)
    }
}

/// A key for this laboratory only.
const KEY: &str = "/run/key";

/// The process of a node, and its log.
#[derive(Debug)]
pub struct Daemon {
    node: usize,
    log: File,
    child: Child,
}

impl Daemon {
    /// Starts it on the node; what it says goes to the end of the log.
    pub fn start(program: &Program, host: &Host, node: usize, log: &File) -> Result<Self, String> {
        let child = spawn(program, host, node, &["manager"], log)?;
        let log = log.try_clone().map_err(|it| it.to_string())?;
        Ok(Self { node, log, child })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // One that has ended is not signalled: that is seen by whoever asks how it ended.
        _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// How it ended, and the last it has said.
    pub fn last_words(&self, status: ExitStatus) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with {code}"),
            (None, signal) => format!("by signal {}", signal.unwrap_or_default()),
        };
        format!("{} has ended {how}: {}", NAMES[self.node], last_line(&self.log))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Opens a node's log, in a folder or nowhere.
pub fn log(folder: Option<&Path>, node: usize) -> Result<File, String> {
    let folder = folder.unwrap_or(Path::new(ROOM));
    let path = folder.join(format!("{}.log", NAMES[node]));
    let file = File::options().create(true).read(true).append(true).open(&path);
    file.map_err(|it| format!("{}: {it}", path.display()))
}

/// Starts the command of these words for a node; what it says goes to the end of the log.
pub fn spawn(
    program: &Program,
    host: &Host,
    node: usize,
    words: &[&str],
    log: &File,
) -> Result<Child, String> {
    let mut command = program.command(words, node)?;
    let [out, err] = [log.try_clone(), log.try_clone()].map(|it| it.map_err(|it| it.to_string()));
    command.stdout(out?).stderr(err?);
    let child = host.inside(|| {
        // What is blocked here would be blocked there.
        SigSet::all().thread_unblock().map_err(std::io::Error::from)?;
        command.spawn()
    })?;
    child.map_err(|it| format!("{}: {it}", program.path.display()))
}

/// The last that was said in a log.
pub fn last_line(mut log: &File) -> String {
    const ENOUGH: i64 = 1_000;
    let mut bytes = Vec::new();
    _ = log.seek(SeekFrom::End(-ENOUGH)).or_else(|_| log.seek(SeekFrom::Start(0)));
    _ = log.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rfind(|it| !it.trim().is_empty()).unwrap_or("it has said nothing").to_owned()
}
