//! The one thing read out of a server's certificate: the addresses it is made out to.

use std::net::{IpAddr, Ipv6Addr};

/// The IP addresses among the subject's alternative names (RFC 5280 §4.2.1.6) of a
/// certificate in DER; empty for whatever is not one.
pub fn addresses(certificate: &[u8]) -> Vec<IpAddr> {
    let names = inside(certificate, SEQUENCE)
        .and_then(|certificate| inside(certificate, SEQUENCE))
        .and_then(|signed| Elements(signed).find(|it| it.tag == EXTENSIONS))
        .and_then(|extensions| inside(extensions.content, SEQUENCE))
        .and_then(|extensions| Elements(extensions).find_map(alternative_names));
    Elements(names.unwrap_or_default()).filter_map(address).collect()
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// RFC 5280 §4.1: `extensions [3] EXPLICIT`.
const EXTENSIONS: u8 = 0xa3;
/// RFC 5280 §4.2.1.6: `iPAddress [7] IMPLICIT OCTET STRING`.
const IP_ADDRESS: u8 = 0x87;
/// RFC 5280 §4.2.1.6: `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

fn alternative_names(extension: Element<'_>) -> Option<&[u8]> {
    let mut fields = Elements(extension.content);
    let id = fields.next()?;
    if id.tag != OBJECT_IDENTIFIER || id.content != SUBJECT_ALT_NAME {
        return None;
    }
    let value = fields.find(|it| it.tag == OCTET_STRING)?;
    inside(value.content, SEQUENCE)
}

fn address(name: Element<'_>) -> Option<IpAddr> {
    if name.tag != IP_ADDRESS {
        return None;
    }
    match *name.content {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        ref longer => Some(Ipv6Addr::from(<[u8; 16]>::try_from(longer).ok()?).into()),
    }
}

fn inside(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    Elements(bytes).next().filter(|it| it.tag == tag).map(|it| it.content)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The DER elements that lie one after another, up to the first that is malformed.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |sum, &it| sum << 8 | usize::from(it)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_the_order_of_the_certificate() {
        let names = [
            tlv(0x82, b"kubernetes"),
            tlv(IP_ADDRESS, &[10, 0, 0, 5]),
            tlv(IP_ADDRESS, &[7; 5]),
            tlv(IP_ADDRESS, &Ipv6Addr::LOCALHOST.octets()),
        ];
        let expected: [IpAddr; 2] = ["10.0.0.5".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(addresses(&certificate(&names.concat())), expected);
    }

    #[test]
    fn long_lengths_are_understood() {
        let names = [tlv(0x82, &[b'a'; 300]), tlv(IP_ADDRESS, &[192, 0, 2, 1])].concat();
        assert_eq!(addresses(&certificate(&names)), [IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn a_certificate_that_is_cut_or_bent_anywhere_does_no_harm() {
        let whole = certificate(&tlv(IP_ADDRESS, &[10, 0, 0, 5]));
        assert_eq!(addresses(&whole).len(), 1);
        for cut in 0..whole.len() {
            assert!(addresses(&whole[..cut]).is_empty(), "cut at {cut}");
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut bent = whole.clone();
                bent[cut] = value;
                assert!(addresses(&bent).len() <= 1);
            }
        }
    }

    fn certificate(names: &[u8]) -> Vec<u8> {
        let other = tlv(SEQUENCE, &[tlv(0x06, &[0x55, 0x1d, 0x0f]), tlv(0x04, &[1])].concat());
        let value = tlv(0x04, &tlv(SEQUENCE, names));
        let critical = tlv(0x01, &[0xff]);
        let ours = tlv(SEQUENCE, &[tlv(0x06, &SUBJECT_ALT_NAME), critical, value].concat());
        let extensions = tlv(EXTENSIONS, &tlv(SEQUENCE, &[other, ours].concat()));
        let serial = tlv(0x02, &[1]);
        let signed = tlv(SEQUENCE, &[serial, extensions].concat());
        tlv(SEQUENCE, &[signed, tlv(SEQUENCE, &[])].concat())
    }

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![tag];
        match length {
            0..0x80 => bytes.push(length as u8),
            _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend(content);
        bytes
    }
}
