use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{
    Ailment, Assigned, ClusterCall, Entry, EntryId, Envelope, Epoch, Hello, Hold, HoldAnswer,
    HoldRefusal, Life, Member, MemberRole, Message, NodeName, Promised, RaftCall, Released, Report,
    Vip, Wishes,
};

/// Whatever can be said, by the number it starts from.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let it = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    fn number(&mut self) -> u64 {
        let bits = self.below(64);
        self.next() >> bits
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    fn some<T, C: FromIterator<T>>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> C {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn name(&mut self) -> NodeName {
        NodeName(format!("node-{}", self.below(6)).into())
    }

    fn ip(&mut self) -> IpAddr {
        let bits = self.next();
        if self.yes() {
            IpAddr::from((bits as u32).to_be_bytes())
        } else {
            IpAddr::from((u128::from(bits) << 64 | u128::from(self.next())).to_be_bytes())
        }
    }

    fn vip(&mut self) -> Vip {
        Vip(self.ip())
    }

    fn id(&mut self) -> EntryId {
        EntryId { term: self.number(), index: self.number() }
    }

    fn epoch(&mut self) -> Epoch {
        Epoch { term: self.number(), count: self.number() as u32 }
    }

    fn span(&mut self) -> Duration {
        Duration::from_micros(self.number())
    }

    pub fn envelope(&mut self) -> Envelope {
        let silent = self.below(8) == 0;
        let it = self.heartbeat();
        let hello = (self.below(8) == 0).then(|| Box::new(self.hello()));
        let message = it.message.filter(|_| !silent);
        Envelope { message, hello, ..it }
    }

    pub fn heartbeat(&mut self) -> Envelope {
        Envelope {
            from: self.name(),
            life: Life(self.next()),
            echo: self.maybe(|it| Life(it.next())),
            count: self.number(),
            message: Some(Box::new(self.message())),
            hello: None,
        }
    }

    fn hello(&mut self) -> Hello {
        Hello {
            address: self.member().address,
            witness: self.yes(),
            voters: self.next() as u8,
            cluster: self.maybe(Self::next),
            hears: self.some(|it| (it.name(), Life(it.next()))),
            set: self.some(|it| (it.name(), Life(it.next()))),
            pledged: self.yes(),
        }
    }

    fn message(&mut self) -> Message {
        Message {
            term: self.number(),
            leader: self.maybe(Self::name),
            cluster: self.maybe(Self::next),
            newest: self.id(),
            committed: self.id(),
            floor: self.number(),
            stamp: self.number(),
            echo: self.maybe(|it| (it.number(), it.number())),
            raft: self.some(Self::call),
            assignment: self.maybe(|it| it.some(Self::assigned)),
            hold: self.maybe(Self::hold),
            answers: self.some(Self::answer),
            released: self.some(|it| Released {
                vip: it.vip(),
                epoch: it.epoch(),
                id: it.number(),
            }),
            report: if self.yes() { Report::default() } else { self.report() },
        }
    }

    fn call(&mut self) -> RaftCall {
        match self.below(6) {
            0 => RaftCall::Append(Box::new(self.entry())),
            1 => RaftCall::AskVote {
                term: self.number(),
                last: self.id(),
                binding: self.yes(),
                transfer: self.yes(),
            },
            2 => RaftCall::Vote {
                term: self.number(),
                binding: self.yes(),
                granted: self.yes(),
                promises: self.some(|it| Promised {
                    vip: it.vip(),
                    to: it.name(),
                    epoch: it.epoch(),
                }),
            },
            3 => RaftCall::Forward { number: self.number() as u32, call: self.order() },
            4 => RaftCall::Forwarded {
                number: self.number() as u32,
                outcome: if self.yes() { Ok("done".into()) } else { Err(String::new()) },
            },
            _ => RaftCall::StandNow,
        }
    }

    fn order(&mut self) -> ClusterCall {
        match self.below(8) {
            0 => ClusterCall::Add {
                name: self.name(),
                address: self.member().address,
                witness: self.yes(),
            },
            1 => ClusterCall::Drain(self.name()),
            2 => ClusterCall::Move(self.vip(), self.name()),
            3 => ClusterCall::Promote(self.name()),
            4 => ClusterCall::Remove(self.name()),
            5 => ClusterCall::Unmove(self.vip()),
            6 => ClusterCall::Readdress { name: self.name(), address: self.member().address },
            _ => ClusterCall::Undrain(self.name()),
        }
    }

    fn entry(&mut self) -> Entry {
        Entry {
            id: self.id(),
            cluster: self.next(),
            members: self.some(|it| (it.name(), it.member())),
            before: self.maybe(|it| it.some(Self::name)),
            longest: self.span(),
            wishes: Wishes {
                drained: self.some(Self::name),
                placed: self.some(|it| (it.vip(), it.name())),
            },
        }
    }

    fn member(&mut self) -> Member {
        let roles = [MemberRole::Learner, MemberRole::Voter, MemberRole::Witness];
        let address = SocketAddr::new(self.ip(), self.next() as u16);
        Member { address, role: roles[self.below(3) as usize] }
    }

    fn assigned(&mut self) -> Assigned {
        Assigned {
            vip: self.vip(),
            epoch: self.epoch(),
            holder: self.maybe(Self::name),
            next: self.maybe(Self::name),
        }
    }

    fn hold(&mut self) -> Hold {
        Hold {
            id: self.number(),
            config: self.id(),
            length: self.span(),
            vips: self.some(|it| (it.vip(), it.epoch())),
            urgent: self.yes(),
        }
    }

    fn answer(&mut self) -> HoldAnswer {
        HoldAnswer {
            id: self.number(),
            acknowledged: self.some(Self::vip),
            refused: self.some(|it| (it.vip(), it.refusal())),
        }
    }

    fn refusal(&mut self) -> HoldRefusal {
        match self.below(7) {
            0 => HoldRefusal::Earlier,
            1 => HoldRefusal::Epoch(self.epoch()),
            2 => HoldRefusal::OldConfig(self.id()),
            3 => HoldRefusal::Promised(self.span()),
            4 => HoldRefusal::Released,
            5 => HoldRefusal::Starting(self.span()),
            _ => HoldRefusal::TooLong(self.span()),
        }
    }

    fn report(&mut self) -> Report {
        let ailments =
            [Ailment::Carrier, Ailment::Check, Ailment::Health, Ailment::Late, Ailment::Store];
        Report {
            ailments: self.some(|it| ailments[it.below(ailments.len() as u64) as usize]),
            penalty: self.next() as u8,
            leaving: self.yes(),
            unable: self.some(Self::vip),
            ready: self.some(|it| (it.vip(), it.epoch())),
        }
    }
}
