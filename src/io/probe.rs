//! How this node is: asks an address over HTTP, and a command of the user's. Each has a thread
//! of its own, which starts when it is first asked.

mod check;
mod health;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use check::Check;
use health::Health;

use crate::io::http::STACK;
use crate::model::Probe;

/// What is asked about; what is not there never fails.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProbeTargets {
    /// For [`Probe::Health`].
    pub health: Option<HealthTarget>,
    /// For [`Probe::Check`].
    pub check: Option<CheckCommand>,
}

/// An address that answers with success as long as all is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthTarget {
    /// With `http` or `https`.
    pub url: String,
    /// Whom to trust, rather than those the system trusts.
    pub ca: Option<PathBuf>,
    /// Whether it must show a certificate that is made out to it.
    pub verify: bool,
    /// For the whole answer.
    pub timeout: Duration,
}

/// A command that succeeds as long as all is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckCommand {
    /// For the shell.
    pub command: String,
    /// It is killed after that.
    pub timeout: Duration,
}

/// Where the answers go: what was asked, and why it failed, in a line, if it did.
pub type DeliverProbed = Arc<dyn Fn(Probe, Option<String>) + Send + Sync>;

/// Asks. Dropping it ends the threads when they have their answers.
pub struct Prober {
    targets: ProbeTargets,
    deliver: DeliverProbed,
    desks: BTreeMap<Probe, Desk>,
}

struct Desk {
    orders: SyncSender<()>,
    busy: Arc<AtomicBool>,
}

impl Prober {
    /// Nothing is asked yet. `deliver` must not block; it is called on the threads, and on
    /// the caller's own where nobody is there to ask.
    pub fn start(targets: ProbeTargets, deliver: DeliverProbed) -> Self {
        Self { targets, deliver, desks: BTreeMap::new() }
    }

    /// Asks; the answer to a question that is under way is the answer to this one, too.
    pub fn ask(&mut self, probe: Probe) {
        let desk = match self.desks.get(&probe) {
            Some(desk) => desk,
            None => match self.open(probe) {
                Ok(Some(desk)) => self.desks.entry(probe).or_insert(desk),
                Ok(None) => return (self.deliver)(probe, None),
                Err(error) => {
                    let why = format!("cannot start a thread to ask: {error}");
                    return (self.deliver)(probe, Some(why));
                }
            },
        };
        if !desk.busy.swap(true, Ordering::AcqRel) {
            // There is room: who was busy has taken the order before.
            let _ = desk.orders.try_send(());
        }
    }

    fn open(&self, probe: Probe) -> io::Result<Option<Desk>> {
        match probe {
            Probe::Check => {
                let Some(target) = self.targets.check.clone() else { return Ok(None) };
                let check = Check::new(target);
                self.spawn(probe, "check", move |answer| check.run(answer)).map(Some)
            }
            Probe::Health => {
                let Some(target) = self.targets.health.clone() else { return Ok(None) };
                let mut health = Health::new(target);
                self.spawn(probe, "health", move |answer| answer(health.ask())).map(Some)
            }
        }
    }

    fn spawn(
        &self,
        probe: Probe,
        name: &str,
        mut work: impl FnMut(&dyn Fn(Option<String>)) + Send + 'static,
    ) -> io::Result<Desk> {
        let (orders, queue) = mpsc::sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let (deliver, of) = (self.deliver.clone(), busy.clone());
        let answer = move |failure| {
            of.store(false, Ordering::Release);
            deliver(probe, failure);
        };
        thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
            for () in queue {
                work(&answer);
            }
        })?;
        Ok(Desk { orders, busy })
    }
}
