//! The fence: the kernel does not answer for an address of ours unless it was told to, and
//! then only until a given moment.
//!
//! What is in the two sets of a family, and what becomes of ARP and NDP for an address:
//!
//! ```text
//!   in neither        answers     not ours, or the fence has forgotten it
//!   @ours             silent
//!   @ours and @live   answers     until the element in @live ends by itself
//! ```

mod table;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use self::table::{Family, Set};
use super::clock;
use super::netlink::socket::{Refused, Socket};
use super::nft::{Tables, table_name};
use crate::model::{Fences, Instant, Vip};

/// How much earlier than promised an element ends: the kernel's timers are as coarse as
/// one tick of 100 Hz.
pub const MARGIN: Duration = Duration::from_millis(10);
/// The kernel rounds a timeout down to ticks, and no tick at all would mean for ever.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long the fence remembers an address after the end of answering: the address may be
/// there for two seconds more, and the kernel is late with its end.
const MEMORY: Duration = Duration::from_secs(5);
/// An element that is to be there for so long is there when the kernel gets to it, however
/// late a busy machine lets this thread go on.
const SURE: Duration = Duration::from_secs(1);
/// So often is a transaction tried that lost a race against elements that end.
const ATTEMPTS: usize = 4;
/// The kernel is busy with its sets for so long at a time.
const BUSY: Duration = Duration::from_millis(2);
/// So many addresses are in one transaction: it takes well below [`MARGIN`], and is within what
/// the kernel takes in one piece.
pub const AT_ONCE: usize = 256;
/// The fence is built with all there is in one piece, and no program shall see half of it.
const LARGEST: usize = 8 << 20;

/// The fence of this instance.
#[derive(Debug)]
pub struct Fence {
    tables: Tables,
    guarded: Vec<Family>,
    /// The numbers of the tables as built; empty before.
    built: BTreeMap<Family, [u8; 8]>,
    /// What was put into the sets and not removed. Whether it has ended is not computed
    /// from its end: in a suspended machine the kernel's timers stand still.
    known: BTreeMap<IpAddr, Ends>,
    races: u64,
}

/// When the elements of one address end.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    ours: Option<Instant>,
    live: Option<Instant>,
}

impl Ends {
    fn of(&mut self, set: Set) -> &mut Option<Instant> {
        match set {
            Set::Ours => &mut self.ours,
            Set::Live => &mut self.live,
        }
    }
}

/// How a change went that was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// As it should.
    Made,
    /// The fence was gone, and was built again first.
    Rebuilt,
}

/// What shall be in the sets about one address, until when.
#[derive(Clone, Copy, Debug)]
struct Wish {
    ip: IpAddr,
    ours: Option<Instant>,
    live: Option<Instant>,
}

enum Attempt {
    Made,
    Ended(Vec<(Set, IpAddr)>),
    NoTable,
    Refused(Refused),
}

impl Fence {
    /// Opens the way to nftables, and tries which families there are. What an earlier
    /// process left stands until [`Fence::clean`].
    pub fn open(instance: Option<&str>, wanted: bool) -> (Option<Self>, Fences) {
        let both = |why: String| Fences { v4: Err(why.clone()), v6: Err(why) };
        let socket = match Socket::open(SockProtocol::NetlinkNetFilter) {
            Ok(socket) => socket,
            Err(error) => return (None, both(format!("the kernel has no nftables: {error}"))),
        };
        socket.make_room(LARGEST);
        let (guarded, built, known) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let tables = Tables::new(socket, &table_name(instance));
        let mut it = Self { tables, guarded, built, known, races: 0 };
        let fences = match wanted {
            true => Fences { v4: it.probe(Family::Arp), v6: it.probe(Family::Ip6) },
            false => both("switched off".to_owned()),
        };
        (Some(it), fences)
    }

    /// How many transactions the kernel refused because an element had ended meanwhile. It
    /// waits for all its readers before it says so.
    pub fn races(&self) -> u64 {
        self.races
    }

    /// Answers for these until then, and remembers for a while longer that they are ours.
    pub fn answer(&mut self, vips: &[Vip], until: Instant) -> Result<Change, String> {
        let wish = |ip, known: Option<Instant>| Wish {
            ip,
            ours: known.max(Some(until + MEMORY)),
            live: Some(until - MARGIN),
        };
        self.write(self.wishes(vips, &wish))
    }

    /// Does not answer for these, whose right to be answered for ends, or ended, then.
    pub fn close(&mut self, vips: &[Vip], until: Instant) -> Result<Change, String> {
        self.silence(vips, until + MEMORY)
    }

    /// Whether there is time left to answer, in the kernel's ticks.
    pub fn in_time(now: Instant, until: Instant) -> bool {
        until.saturating_since(now) >= MARGIN + SHORTEST
    }

    /// Does not answer for these, and remembers until then that they are ours.
    pub fn silence(&mut self, vips: &[Vip], until: Instant) -> Result<Change, String> {
        let each: Vec<_> = vips.iter().map(|it| (*it, until)).collect();
        self.silence_each(&each)
    }

    /// The same, for each until a moment of its own.
    pub fn silence_each(&mut self, each: &[(Vip, Instant)]) -> Result<Change, String> {
        let wishes = each.iter().flat_map(|(vip, until)| {
            let wish =
                |ip, known: Option<Instant>| Wish { ip, ours: known.max(Some(*until)), live: None };
            self.wishes(std::slice::from_ref(vip), &wish)
        });
        self.write(wishes.collect())
    }

    /// Forgets these.
    pub fn forget(&mut self, vips: &[Vip]) -> Result<Change, String> {
        self.write(self.wishes(vips, &|ip, _| Wish { ip, ours: None, live: None }))
    }

    /// Builds the fence again if it does not stand as it was built.
    pub fn verify(&mut self) -> Result<Change, String> {
        for (family, built) in self.built.clone() {
            if !self.tables.stands(family.number(), built, family.rules()) {
                self.build()?;
                return Ok(Change::Rebuilt);
            }
        }
        Ok(Change::Made)
    }

    /// Whether the fence of an earlier process stands, so that it names all of its addresses.
    pub fn is_left(&mut self) -> bool {
        self.guarded.iter().all(|it| self.tables.handle(it.number()).is_some())
    }

    /// The addresses that the fence of an earlier process names as ours.
    pub fn leftovers(&mut self) -> BTreeSet<IpAddr> {
        let mut read = |family: Family| {
            let ours = |it: &mut _| table::of_ours(it, family);
            let (kind, number) = (libc::NFT_MSG_GETSETELEM, family.number());
            self.tables.dump(kind, number, &ours, &table::addresses)
        };
        [Family::Arp, Family::Ip6].into_iter().flat_map(&mut read).flatten().collect()
    }

    /// Removes the fence of an earlier process; ours stands in its place, empty.
    pub fn clean(&mut self) -> Result<(), String> {
        for family in [Family::Arp, Family::Ip6] {
            if !self.guarded.contains(&family) && self.tables.handle(family.number()).is_some() {
                let mut it = self.tables.transaction();
                it.delete(family.number());
                self.tables.send(it).map_err(explain)?;
            }
        }
        self.known.clear();
        self.build()
    }

    /// Tries whether the kernel takes the table of a family.
    fn probe(&mut self, family: Family) -> Result<(), String> {
        match self.tables.probe(family.number(), |it| table::build(it, family)) {
            Ok(()) => {
                self.guarded.push(family);
                Ok(())
            }
            Err(refused) => Err(lacking(family, &refused)),
        }
    }

    /// Builds the tables in place of what has their names. What is ours is silent then.
    fn build(&mut self) -> Result<(), String> {
        let now = clock::now();
        let mut it = self.tables.transaction();
        self.guarded.iter().for_each(|family| table::build(&mut it, *family));
        let ours = self.known.iter().filter_map(|(ip, it)| Some((*ip, timeout(it.ours?, now))));
        let ours: Vec<_> = ours.collect();
        // In order, so that each family is in one piece.
        for some in ours.chunk_by(|a, b| a.0.is_ipv4() == b.0.is_ipv4()) {
            table::add_all(&mut it, Set::Ours, some);
        }
        if it.is_empty() {
            return Ok(());
        }
        self.tables.send(it).map_err(explain)?;
        self.known.values_mut().for_each(|it| it.live = None);
        self.known.retain(|_, it| it.ours.is_some());
        for family in self.guarded.clone() {
            let handle = self.tables.handle(family.number()).unwrap_or_default();
            self.built.insert(family, handle);
        }
        Ok(())
    }

    fn wishes(&self, vips: &[Vip], wish: &dyn Fn(IpAddr, Option<Instant>) -> Wish) -> Vec<Wish> {
        let guarded = |it: &&Vip| self.guarded.contains(&Family::of(it.0));
        let known = |ip: IpAddr| self.known.get(&ip).and_then(|it| it.ours);
        vips.iter().filter(guarded).map(|it| wish(it.0, known(it.0))).collect()
    }

    fn write(&mut self, wishes: Vec<Wish>) -> Result<Change, String> {
        let mut change = Change::Made;
        if self.built.is_empty() && !wishes.is_empty() {
            self.build()?;
        }
        for some in wishes.chunks(AT_ONCE) {
            if self.write_some(some)? == Change::Rebuilt {
                change = Change::Rebuilt;
            }
        }
        Ok(change)
    }

    fn write_some(&mut self, wishes: &[Wish]) -> Result<Change, String> {
        let mut change = Change::Made;
        for _ in 0..ATTEMPTS {
            match self.attempt(wishes) {
                Attempt::Made => {
                    self.remember(wishes);
                    return Ok(change);
                }
                Attempt::Ended(ended) => {
                    for (set, ip) in ended {
                        self.note(set, ip, None);
                    }
                }
                Attempt::NoTable => {
                    self.build()?;
                    change = Change::Rebuilt;
                }
                // The kernel is about to make more room for its sets.
                Attempt::Refused(refused) if refused.errno == Errno::EBUSY => sleep(BUSY),
                Attempt::Refused(refused) => return Err(explain(refused)),
            }
        }
        Err("the nftables fence changes faster than it can be written".to_owned())
    }

    /// An element that is there keeps its timeout when it is added again, so it is removed
    /// first, in the same transaction. To remove one that has ended would fail, and the
    /// kernel waits for all its readers before it says so, for seconds where it is busy: one
    /// that may have ended is added before it is removed.
    fn attempt(&mut self, wishes: &[Wish]) -> Attempt {
        let now = clock::now();
        let mut removals = BTreeMap::new();
        let mut it = self.tables.transaction();
        for wish in wishes {
            let known = self.known.get(&wish.ip).copied().unwrap_or_default();
            for (set, known, end) in
                [(Set::Ours, known.ours, wish.ours), (Set::Live, known.live, wish.live)]
            {
                if let Some(known) = known {
                    if known < now + SURE {
                        table::add(&mut it, set, wish.ip, MEMORY);
                    }
                    removals.insert(table::remove(&mut it, set, wish.ip), (set, wish.ip));
                }
                if let Some(end) = end {
                    table::add(&mut it, set, wish.ip, timeout(end, now));
                }
            }
        }
        if it.is_empty() {
            return Attempt::Made;
        }
        let mut ended = Vec::new();
        for refused in self.tables.send_all(it) {
            match (refused.errno, removals.get(&refused.number)) {
                (Errno::ENOENT, Some(removal)) => ended.push(*removal),
                (Errno::ENOENT, None) if refused.number != 0 => return Attempt::NoTable,
                (_, _) => return Attempt::Refused(refused),
            }
        }
        if ended.is_empty() {
            return Attempt::Made;
        }
        self.races += 1;
        Attempt::Ended(ended)
    }

    fn remember(&mut self, wishes: &[Wish]) {
        for wish in wishes {
            for (set, end) in [(Set::Ours, wish.ours), (Set::Live, wish.live)] {
                self.note(set, wish.ip, end);
            }
        }
    }

    fn note(&mut self, set: Set, ip: IpAddr, end: Option<Instant>) {
        let it = self.known.entry(ip).or_default();
        *it.of(set) = end;
        if it.ours.or(it.live).is_none() {
            self.known.remove(&ip);
        }
    }
}

fn timeout(end: Instant, now: Instant) -> Duration {
    end.saturating_since(now).max(SHORTEST)
}

fn explain(refused: Refused) -> String {
    format!("writing the nftables fence: {refused}")
}

fn lacking(family: Family, refused: &Refused) -> String {
    match (family, refused.errno) {
        (_, Errno::EPERM) => "nftables needs CAP_NET_ADMIN".to_owned(),
        (Family::Arp, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT) => {
            "nftables has no arp family here: CONFIG_NF_TABLES_ARP, kmod-nft-arp".to_owned()
        }
        (Family::Ip6, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT) => {
            "nftables has no ip6 family here: CONFIG_NF_TABLES_IPV6, kmod-nft-core".to_owned()
        }
        (_, _) => format!("nftables says no: {refused}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_too_short_for_a_tick_of_the_kernel_is_too_late() {
        let now = Instant::from_nanos(5_000_000_000);
        assert!(Fence::in_time(now, now + Duration::from_millis(20)));
        assert!(!Fence::in_time(now, now + Duration::from_millis(19)));
        assert!(!Fence::in_time(now, now - Duration::from_millis(1)));
    }
}
