//! Classic BPF: what a socket hears is decided in the kernel, so that the chatter of the
//! LAN and of other programs never wakes this one.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::io::sockopt::set_option;
use crate::model::LinkIndex;

/// Up to so many addresses are looked for in the kernel; of more, all that claims or asks
/// for any address is let through.
pub(super) const MOST_ADDRESSES: usize = 64;
/// The same for links.
const MOST_LINKS: usize = 16;

/// `PACKET_OTHERHOST` and what is above it: for other hosts, for a VLAN that is not here,
/// or from this host.
const FOR_OTHERS: u32 = 3;
/// `PACKET_OUTGOING`: from this host.
const FROM_HERE: u32 = 4;
/// The ancillary data: `SKF_AD_OFF` and what stands there.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const ATTRIBUTE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_NLATTR) as u32;
const ARRIVED_ON: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;

/// Length of an Ethernet header.
const ETHERNET: u32 = 14;
/// ARP: hardware, protocol and the lengths of their addresses, for Ethernet and IPv4.
const ARP_FORM: [(u32, u32); 2] = [(ETHERNET, 0x0001_0800), (ETHERNET + 2, 0x0800_0604)];
const ARP_SENDER: u32 = ETHERNET + 14;
const ARP_TARGET: u32 = ETHERNET + 24;
const IP6_NEXT_HEADER: u32 = ETHERNET + 6;
const IP6_SOURCE: u32 = ETHERNET + 8;
const ICMP6_TYPE: u32 = ETHERNET + 40;
const ND_TARGET: u32 = ETHERNET + 48;
const ICMP6: u32 = 58;
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;
/// More fragments, or an offset.
const FRAGMENT: u32 = 0x3fff;

/// A filter program.
#[derive(Clone, Debug, Default)]
pub struct Program(Vec<libc::sock_filter>);

/// The field that a program looks at.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// One byte at this offset.
    Byte(u32),
    /// Two bytes, in network order.
    Half(u32),
    /// Four bytes, in network order.
    Word(u32),
    /// The length of it all.
    Length,
}

impl Program {
    /// Lets nothing through.
    pub fn nothing() -> Self {
        let mut it = Self::default();
        it.reject();
        it
    }

    /// Claims of, and probes for, these IPv4 addresses, in ARP that comes in on these links.
    pub fn arp(links: &[LinkIndex], ips: &[IpAddr]) -> Self {
        let mut it = Self::incoming(links, FOR_OTHERS);
        for (offset, form) in ARP_FORM {
            it.load(Field::Word(offset));
            it.reject_unless(form);
        }
        let named: Vec<u32> = ips.iter().filter_map(first_word).collect();
        it.load(Field::Word(ARP_SENDER));
        if named.len() > MOST_ADDRESSES {
            it.accept();
            return it;
        }
        for ip in &named {
            it.accept_if(*ip);
        }
        it.reject_unless(0);
        it.load(Field::Word(ARP_TARGET));
        for ip in &named {
            it.accept_if(*ip);
        }
        it.reject();
        it
    }

    /// Claims of, and probes for, these IPv6 addresses, that come in on these links.
    pub fn nd(links: &[LinkIndex], ips: &[IpAddr]) -> Self {
        let mut it = Self::incoming(links, FOR_OTHERS);
        it.load(Field::Byte(IP6_NEXT_HEADER));
        it.reject_unless(ICMP6);
        it.load(Field::Byte(ICMP6_TYPE));
        // An advertisement skips the questions put to a solicitation: one for the kind,
        // three for each word of its source.
        it.jump(ADVERTISEMENT, 2 + 4 * 3, 0);
        it.reject_unless(SOLICITATION);
        for word in 0..4 {
            it.load(Field::Word(IP6_SOURCE + 4 * word));
            it.reject_unless(0);
        }
        let named: Vec<[u8; 16]> = ips.iter().filter_map(sixteen).collect();
        if named.len() > MOST_ADDRESSES {
            it.accept();
            return it;
        }
        for ip in &named {
            let (words, _) = ip.as_chunks::<4>();
            for (at, word) in words.iter().enumerate() {
                it.load(Field::Word(ND_TARGET + 4 * at as u32));
                // On to the next address, past the words that are left and `accept`.
                it.jump(u32::from_be_bytes(*word), 0, (3 - at as u8) * 2 + 1);
            }
            it.accept();
        }
        it.reject();
        it
    }

    /// What DHCP servers and relays send to clients on these links, to whatever hardware
    /// address: a lease may have one that is not the link's.
    pub fn dhcp(links: &[LinkIndex]) -> Self {
        let mut it = Self::incoming(links, FROM_HERE);
        it.load(Field::Half(ETHERNET - 2));
        it.reject_unless(libc::ETH_P_IP as u32);
        it.load(Field::Byte(ETHERNET + 9));
        it.reject_unless(libc::IPPROTO_UDP as u32);
        it.load(Field::Half(ETHERNET + 6));
        it.op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, FRAGMENT);
        it.reject();
        // What follows counts from the end of the header of IPv4.
        it.op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, ETHERNET);
        for (offset, port) in [(0, 67), (2, 68)] {
            it.op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, ETHERNET + offset);
            it.reject_unless(port);
        }
        it.accept();
        it
    }

    /// The same of DHCPv6. What has headers between IPv6 and UDP is not of servers.
    pub fn dhcp6(links: &[LinkIndex]) -> Self {
        let mut it = Self::incoming(links, FROM_HERE);
        it.load(Field::Half(ETHERNET - 2));
        it.reject_unless(libc::ETH_P_IPV6 as u32);
        it.load(Field::Byte(IP6_NEXT_HEADER));
        it.reject_unless(libc::IPPROTO_UDP as u32);
        // Both ports.
        it.load(Field::Word(ETHERNET + 40));
        it.reject_unless(547 << 16 | 546);
        it.accept();
        it
    }

    /// Begins a program that looks at what comes in on these links, of a packet type below
    /// this.
    fn incoming(links: &[LinkIndex], below: u32) -> Self {
        let mut it = Self::default();
        it.load(Field::Word(PACKET_TYPE));
        it.op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, below);
        it.reject();
        if links.len() > MOST_LINKS {
            return it;
        }
        it.load(Field::Word(ARRIVED_ON));
        for (at, link) in links.iter().enumerate() {
            // Past the links that are left and `reject`.
            it.jump(link.0, (links.len() - at) as u8, 0);
        }
        it.reject();
        it
    }

    /// Looks at a field; outside of what there is, nothing is let through.
    pub fn load(&mut self, field: Field) {
        let (size, offset) = match field {
            Field::Byte(offset) => (libc::BPF_B | libc::BPF_ABS, offset),
            Field::Half(offset) => (libc::BPF_H | libc::BPF_ABS, offset),
            Field::Word(offset) => (libc::BPF_W | libc::BPF_ABS, offset),
            Field::Length => (libc::BPF_W | libc::BPF_LEN, 0),
        };
        self.op(libc::BPF_LD | size, 0, 0, offset);
    }

    /// Loads the first byte of a netlink attribute of that kind, of those that begin at this
    /// offset; 0 where there is none.
    pub fn load_attribute(&mut self, from: u32, kind: u16) {
        self.op(libc::BPF_LD | libc::BPF_IMM, 0, 0, from);
        self.op(libc::BPF_LDX | libc::BPF_IMM, 0, 0, kind.into());
        self.op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, ATTRIBUTE);
        // Where it is, or 0: past the two steps to its value.
        self.jump(0, 2, 0);
        self.op(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0);
        self.op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, 4);
    }

    /// Lets it through if the field is this.
    pub fn accept_if(&mut self, value: u32) {
        self.jump(value, 0, 1);
        self.accept();
    }

    /// Lets it through if the field is less than this.
    pub fn accept_below(&mut self, value: u32) {
        self.op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, value);
        self.accept();
    }

    /// Lets it not through unless the field is this.
    pub fn reject_unless(&mut self, value: u32) {
        self.jump(value, 1, 0);
        self.reject();
    }

    /// Skips so many steps if the field is this, else as many others.
    pub fn jump(&mut self, value: u32, if_so: u8, if_not: u8) {
        self.op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_so, if_not, value);
    }

    /// Lets it through.
    pub fn accept(&mut self) {
        self.op(libc::BPF_RET, 0, 0, u32::MAX);
    }

    /// Lets it not through.
    pub fn reject(&mut self) {
        self.op(libc::BPF_RET, 0, 0, 0);
    }

    /// Puts it before a socket, in place of what was there.
    pub fn attach(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut steps = self.0.clone();
        let it = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &it)
    }

    fn op(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.0.push(libc::sock_filter { code: code as u16, jt, jf, k });
    }
}

fn first_word(ip: &IpAddr) -> Option<u32> {
    match ip {
        IpAddr::V4(ip) => Some(ip.to_bits()),
        IpAddr::V6(_) => None,
    }
}

fn sixteen(ip: &IpAddr) -> Option<[u8; 16]> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip.octets()),
    }
}
