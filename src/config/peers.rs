//! How members of a quorum are written: `id:address:port`, or an object in a file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::model::{Member, MemberRole, NodeName};

/// A member as written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its name, in lower case.
    pub name: NodeName,
    /// Where it listens.
    pub address: SocketAddr,
    /// It votes and carries nothing.
    pub witness: bool,
}

impl Peer {
    /// As the quorum knows it.
    pub fn member(&self) -> Member {
        let role = if self.witness { MemberRole::Witness } else { MemberRole::Voter };
        Member { address: self.address, role }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let witness = if self.witness { ":witness" } else { "" };
        write!(f, "{}:{}{witness}", self.name, self.address)
    }
}

/// One member.
pub fn peer(text: &str) -> Result<Peer, String> {
    if !text.starts_with('{') {
        return from_text(text);
    }
    let value = serde_json::from_slice(text.as_bytes());
    from_value(&value.map_err(|it| format!("not a member: {it}"))?)
}

/// None, one or several with commas; or what a file has instead.
pub fn peers(text: &str) -> Result<Vec<Peer>, String> {
    if text.starts_with(['[', '{']) {
        let value = serde_json::from_slice(text.as_bytes());
        return match value.map_err(|it| format!("not members: {it}"))? {
            Value::Array(items) => items.iter().map(from_value).collect(),
            one => Ok(vec![from_value(&one)?]),
        };
    }
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(from_text).collect()
}

const RIGHT: &str = "give id:address:port such as node-1:10.0.0.1:10000, with IPv6 in brackets as \
                     in node-1:[fd00::1]:10000, and :witness after it for one that only votes";

fn from_text(text: &str) -> Result<Peer, String> {
    let unclear = || format!("{text:?} is not a member; {RIGHT}");
    let (name, rest) = text.split_once(':').ok_or_else(unclear)?;
    let (address, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(unclear)?,
        None => rest.split_once(':').ok_or_else(unclear)?,
    };
    let (port, witness) = match rest.split_once(':') {
        Some((port, "witness")) => (port, true),
        Some(_) => return Err(unclear()),
        None => (rest, false),
    };
    build(name, address, port, witness)
}

fn from_value(value: &Value) -> Result<Peer, String> {
    let fields = match value {
        Value::String(text) => return from_text(text),
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(format!("{value} is not a member; {RIGHT}"));
        }
    };
    let (mut name, mut address, mut port, mut witness) = Default::default();
    for (key, value) in fields {
        let text = super::values::spelled(value);
        match key.to_ascii_lowercase().as_str() {
            "id" => name = text,
            "address" => address = text,
            "port" => port = text,
            "witness" => match super::values::bool(&text) {
                Some(it) => witness = it,
                None => return Err(format!("witness={text} is neither true nor false")),
            },
            _ => return Err(format!("a member has id, address, port and witness, but no {key}")),
        }
    }
    build(&name, address.trim_matches(['[', ']']), &port, witness)
}

fn build(name: &str, address: &str, port: &str, witness: bool) -> Result<Peer, String> {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        return Err(format!("{name:?} is not the id of a member; {RIGHT}"));
    }
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Err(format!("{address:?} is not an IP address; {RIGHT}"));
    };
    let strange = match ip {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.is_unicast_link_local(),
    };
    if strange || ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{ip} is not an address that other members can send to"));
    }
    let Some(port) = port.parse::<u16>().ok().filter(|it| *it != 0) else {
        return Err(format!("{port:?} is not a port from 1 to 65535; {RIGHT}"));
    };
    let name = NodeName(name.to_lowercase().into());
    Ok(Peer { name, address: SocketAddr::new(ip, port), witness })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_written_in_one_word_or_as_an_object() {
        let cases = [
            ("a:10.0.0.1:10000", "a:10.0.0.1:10000"),
            ("Node-A.b:10.0.0.1:1:witness", "node-a.b:10.0.0.1:1:witness"),
            ("a:[fd00::1]:10000", "a:[fd00::1]:10000"),
            ("a:[fd00::1]:10000:witness", "a:[fd00::1]:10000:witness"),
            (r#"{"id":"a","address":"10.0.0.1","port":10000}"#, "a:10.0.0.1:10000"),
            (r#"{"ID":"a","address":"fd00::1","port":"7"}"#, "a:[fd00::1]:7"),
            (
                r#"{"id":"a","address":"[fd00::1]","port":7,"witness":true}"#,
                "a:[fd00::1]:7:witness",
            ),
        ];
        for (text, read) in cases {
            assert_eq!(peer(text).unwrap().to_string(), read, "{text}");
            assert_eq!(peers(text).unwrap().len(), 1, "{text}");
        }
        let list =
            |text: &str| peers(text).unwrap().iter().map(Peer::to_string).collect::<Vec<_>>();
        assert_eq!(list(""), Vec::<String>::new());
        assert_eq!(list(" a:10.0.0.1:1 , b:[::1]:2,"), ["a:10.0.0.1:1", "b:[::1]:2"]);
        let file = r#"[{"id":"a","address":"10.0.0.1","port":1},"b:10.0.0.2:2"]"#;
        assert_eq!(list(file), ["a:10.0.0.1:1", "b:10.0.0.2:2"]);
    }

    #[test]
    fn what_is_no_member_is_said_with_what_would_be_right() {
        let cases = [
            ("a", "\"a\" is not a member; give id:address:port such as"),
            ("a:10.0.0.1", "is not a member"),
            (":10.0.0.1:1", "\"\" is not the id of a member"),
            ("a/b:10.0.0.1:1", "\"a/b\" is not the id"),
            ("a:host:1", "\"host\" is not an IP address"),
            ("a:fd00::1:1", "with IPv6 in brackets"),
            ("a:[fd00::1]", "is not a member"),
            ("a:0.0.0.0:1", "0.0.0.0 is not an address that other members can send to"),
            ("a:[fe80::1]:1", "fe80::1 is not an address"),
            ("a:[ff02::1]:1", "ff02::1 is not an address"),
            ("a:10.0.0.1:0", "\"0\" is not a port"),
            ("a:10.0.0.1:x", "\"x\" is not a port"),
            ("a:10.0.0.1:1:x", "is not a member"),
            ("{", "not a member: EOF"),
            (r#"{"id":"a"}"#, "\"\" is not an IP address"),
            (r#"{"id":"a","host":"b"}"#, "but no host"),
            (r#"{"id":"a","witness":"x"}"#, "witness=x is neither"),
        ];
        for (text, why) in cases {
            let said = peer(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
            assert!(peers(text).is_err(), "{text}");
        }
        assert!(peers("[1]").unwrap_err().starts_with("1 is not a member"));
        assert!(peers("[").unwrap_err().starts_with("not members"));
    }
}
