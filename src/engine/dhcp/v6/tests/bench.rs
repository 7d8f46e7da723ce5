//! A client, and a server whose answers are written as words.

use super::*;

pub(super) const SERVER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(super) const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const IAID: u32 = 9;

/// One machine, the time, and what it has said.
pub(super) struct Bench {
    pub machine: Dhcp6,
    pub now: Instant,
    pub rng: Rng,
    pub said: Vec<Dhcp6Message>,
    pub last: Option<Dhcp6Message>,
}

pub(super) fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

pub(super) fn config() -> Dhcp6Config {
    Dhcp6Config { duid: vec![0, 4, 7], iaid: IAID, host_name: "web".into(), requested: None }
}

pub(super) fn lease(seconds: u32) -> Dhcp6Lease {
    let Dhcp6Config { duid, iaid, .. } = config();
    Dhcp6Lease { address: ip(50), server: server(1), seconds, iaid, duid }
}

pub(super) fn server(number: u8) -> Vec<u8> {
    vec![0, 3, number]
}

pub(super) fn status(code: Dhcp6Code) -> Option<Dhcp6Status> {
    Some(Dhcp6Status { code, words: "so it is".into() })
}

impl Bench {
    pub fn with(make: impl FnOnce(Instant) -> Dhcp6) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let (rng, said, last) = (Rng::from_seed(1), Vec::new(), None);
        let mut it = Self { machine: make(now), now, rng, said, last };
        it.turn(|_, _| {});
        it
    }

    pub fn new() -> Self {
        Self::with(|now| Dhcp6::new(config(), now))
    }

    /// With a lease of an hour.
    pub fn bound() -> Self {
        let mut it = Self::new();
        it.hear("advertise 50 3600 255").hear("reply 50 3600").free();
        it.said.clear();
        it
    }

    pub fn turn(&mut self, what: impl FnOnce(&mut Dhcp6, &mut Turn6<'_>)) -> &mut Self {
        let node_of = |it: IpAddr| (it == IpAddr::from(ip(7))).then(|| "the node n7".to_owned());
        let (now, rng, out) = (self.now, &mut self.rng, &mut self.said);
        let turn = &mut Turn { now, rng, out, node_of: &node_of, answered: true };
        what(&mut self.machine, turn);
        self.machine.tick(turn);
        self.last = self.said.last().cloned().or(self.last.take());
        self
    }

    /// Lets time pass, waking when it asks to be woken.
    pub fn pass(&mut self, ms: u64) -> &mut Self {
        let end = self.now + Duration::from_millis(ms);
        let mut turns = 0;
        while let Some(at) = self.machine.deadline().filter(|it| *it <= end) {
            self.now = at;
            self.turn(|_, _| {});
            turns += 1;
            assert!(turns < 1_000, "it spins");
        }
        self.now = end;
        self.turn(|_, _| {})
    }

    /// What a server answers to what was said last: `advertise 50 3600 255`, the last being
    /// its preference, or `reply 50 3600`.
    pub fn answer(&self, text: &str) -> Dhcp6Message {
        let asked = self.last.clone().expect("nothing was asked");
        let mut words = text.split(' ');
        let kind = match words.next().unwrap() {
            "advertise" => Dhcp6Kind::Advertise,
            _ => Dhcp6Kind::Reply,
        };
        let mut it = Dhcp6Message::new(kind, asked.xid, asked.client);
        it.server = server(1);
        let mut number = || words.next().map(|it| it.parse::<u32>().unwrap());
        let address = number().zip(number());
        let address = address.map(|(last, valid)| Dhcp6Address {
            ip: ip(u16::try_from(last).unwrap()),
            preferred: valid,
            valid,
        });
        let addresses = address.into_iter().collect();
        it.ia = Some(Dhcp6Ia { id: IAID, t1: 0, t2: 0, addresses, status: None });
        it.preference = number().map_or(0, |it| u8::try_from(it).unwrap());
        it
    }

    pub fn say(&mut self, message: &Dhcp6Message) -> &mut Self {
        self.turn(|it, turn| it.on_message(turn, SERVER, message))
    }

    pub fn hear(&mut self, text: &str) -> &mut Self {
        let message = self.answer(text);
        self.say(&message)
    }

    pub fn free(&mut self) -> &mut Self {
        self.turn(|it, turn| it.on_probed(turn, None))
    }

    pub fn phase(&self) -> String {
        self.machine.status(self.now).phase
    }

    pub fn address(&self) -> Option<Ipv6Addr> {
        self.machine.lease().map(|it| it.address)
    }

    /// What was said since the last time: kind, address, server.
    pub fn said(&mut self) -> Vec<String> {
        let text = |it: Dhcp6Message| {
            let ia = it.ia.unwrap();
            assert_eq!((it.client, ia.id), (self.machine.config.duid.clone(), IAID));
            let ip = ia.addresses.first().map_or("-".into(), |it| it.ip.segments()[7].to_string());
            let server = it.server.last().map_or("any".to_owned(), u8::to_string);
            format!("{:?} {ip} {server}", it.kind)
        };
        std::mem::take(&mut self.said).into_iter().map(text).collect()
    }
}
