//! A Service in as little room as it needs: of thousands that are kept, few are looked into at
//! a time. The bytes are this process's own and never leave it.

use std::net::IpAddr;

use crate::model::{
    FamilyPolicy, Ingress, IpFamily, ObjectName, Protocol, ResourceVersion, Service, ServicePort,
    Words,
};

/// All of a Service but its name.
#[derive(Clone, Debug)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Packs it.
    pub fn of(service: &Service) -> Self {
        let Service {
            name: _,
            uid,
            version,
            balanced,
            deleting,
            class,
            load_balancer_ip,
            local,
            families,
            family_policy,
            ports,
            annotations,
            labels,
            finalizers,
            ingress,
        } = service;
        let mut to = Writer(Vec::with_capacity(256));
        let policy = match family_policy {
            FamilyPolicy::SingleStack => 0,
            FamilyPolicy::PreferDualStack => 1,
            FamilyPolicy::RequireDualStack => 2,
        };
        let flags = [*balanced, *deleting, *local].into_iter().map(usize::from);
        to.number(flags.fold(policy, |all, flag| all << 1 | flag));
        to.text(uid);
        to.text(&version.0);
        to.maybe(class.as_deref());
        to.maybe(load_balancer_ip.as_deref());
        to.all(families, |to, it| to.number(usize::from(*it == IpFamily::V6)));
        to.all(ports, Writer::port);
        for words in [annotations, labels] {
            to.number(words.len());
            words.iter().for_each(|(key, text)| [key, text].into_iter().for_each(|it| to.text(it)));
        }
        to.all(finalizers, |to, it| to.text(it));
        to.all(ingress, |to, it| {
            let Ingress { ip, hostname, ip_mode, ports } = it;
            to.address(*ip);
            to.maybe(hostname.as_deref());
            to.maybe(ip_mode.as_deref());
            to.all(ports, Writer::port);
        });
        Self(to.0.into())
    }

    /// The Service, whose name is this.
    pub fn unpack(&self, name: &ObjectName) -> Service {
        let mut from = Reader(&self.0);
        let flags = from.number();
        let flag = |bit: usize| flags >> bit & 1 == 1;
        Service {
            name: name.clone(),
            uid: from.text(),
            version: ResourceVersion(from.text()),
            balanced: flag(2),
            deleting: flag(1),
            local: flag(0),
            family_policy: match flags >> 3 {
                1 => FamilyPolicy::PreferDualStack,
                2 => FamilyPolicy::RequireDualStack,
                _ => FamilyPolicy::SingleStack,
            },
            class: from.maybe(),
            load_balancer_ip: from.maybe(),
            families: from.all(|from| match from.number() {
                0 => IpFamily::V4,
                _ => IpFamily::V6,
            }),
            ports: from.all(Reader::port),
            annotations: from.words(),
            labels: from.words(),
            finalizers: from.all(Reader::text),
            ingress: from.all(|from| Ingress {
                ip: from.address(),
                hostname: from.maybe(),
                ip_mode: from.maybe(),
                ports: from.all(Reader::port),
            }),
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: usize) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
    }

    fn maybe(&mut self, text: Option<&str>) {
        self.number(text.is_some().into());
        text.into_iter().for_each(|it| self.text(it));
    }

    fn all<T>(&mut self, all: &[T], one: impl Fn(&mut Self, &T)) {
        self.number(all.len());
        all.iter().for_each(|it| one(self, it));
    }

    fn port(&mut self, it: &ServicePort) {
        self.number(it.port.into());
        self.number(match it.protocol {
            Protocol::Sctp => 0,
            Protocol::Tcp => 1,
            Protocol::Udp => 2,
        });
    }

    fn address(&mut self, ip: Option<IpAddr>) {
        match ip {
            None => self.number(0),
            Some(IpAddr::V4(ip)) => {
                self.number(4);
                self.0.extend(ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                self.number(6);
                self.0.extend(ip.octets());
            }
        }
    }
}

/// What a [`Writer`] wrote is read in the same order, so nothing is ever missing.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.bytes();
            number |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *bytes
    }

    fn text(&mut self) -> String {
        let length = self.number();
        let (text, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn maybe(&mut self) -> Option<String> {
        (self.number() > 0).then(|| self.text())
    }

    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.number();
        (0..count).map(|_| one(self)).collect()
    }

    fn words(&mut self) -> Words {
        self.all(|from| (from.text(), from.text())).into_iter().collect()
    }

    fn port(&mut self) -> ServicePort {
        ServicePort {
            port: self.number() as u16,
            protocol: match self.number() {
                0 => Protocol::Sctp,
                1 => Protocol::Tcp,
                _ => Protocol::Udp,
            },
        }
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.number() {
            0 => None,
            4 => Some(IpAddr::from(self.bytes::<4>())),
            _ => Some(IpAddr::from(self.bytes::<16>())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let port = |port, protocol| ServicePort { port, protocol };
        let bare = Service {
            name: "a/web".into(),
            uid: String::new(),
            version: ResourceVersion("1".into()),
            balanced: false,
            deleting: false,
            class: None,
            load_balancer_ip: None,
            local: false,
            families: Vec::new(),
            family_policy: FamilyPolicy::SingleStack,
            ports: Vec::new(),
            annotations: Words::new(),
            labels: Words::new(),
            finalizers: Vec::new(),
            ingress: Vec::new(),
        };
        let one = Ingress {
            ip: Some([10, 0, 0, 1].into()),
            hostname: None,
            ip_mode: Some("VIP".into()),
            ports: vec![port(80, Protocol::Tcp), port(65_535, Protocol::Sctp)],
        };
        let other = Ingress { ip: "fd00::1".parse().ok(), ..Ingress::default() };
        let named = Ingress { hostname: Some("web.example".into()), ..Ingress::default() };
        let full = Service {
            uid: "6f3c1a52-8d07-4f0e-b5c3-000000000001".into(),
            balanced: true,
            class: Some(String::new()),
            load_balancer_ip: Some("::".into()),
            families: vec![IpFamily::V6, IpFamily::V4],
            family_policy: FamilyPolicy::RequireDualStack,
            ports: vec![port(53, Protocol::Udp)],
            annotations: [("b".into(), "x".repeat(16_384)), ("a".into(), "ü".into())].into(),
            labels: [(String::new(), String::new())].into(),
            finalizers: vec!["one".into(), "two".into()],
            ingress: vec![one, other, named],
            ..bare.clone()
        };
        let (deleting, local) = (true, true);
        let family_policy = FamilyPolicy::PreferDualStack;
        let leaving = Service { deleting, family_policy, ..bare.clone() };
        let near = Service { local, ..bare.clone() };
        for it in [bare, full, leaving, near] {
            assert_eq!(Packed::of(&it).unpack(&it.name), it);
        }
    }
}
