//! Requests to a UPnP Internet gateway, and its answers.
//!
//! Supported: SOAP 1.1 over HTTP/1.1 as UPnP Device Architecture 1.1 §3.2 has it; of
//! WANIPConnection:1 and :2 and WANPPPConnection:1 the actions AddPortMapping,
//! DeletePortMapping, GetSpecificPortMappingEntry and GetExternalIPAddress; of
//! WANIPv6FirewallControl:1 AddPinhole and DeletePinhole. Left out on purpose: all of XML that
//! is no element with a text.

use std::net::{IpAddr, SocketAddr};

use super::GarbledAnswer;
use crate::model::{Exposed, GatewayFault, GatewayNo, MappingEntry, Protocol, UpnpControl};

/// No answer of a gateway is longer.
pub const LONGEST: usize = 64 * 1024;

/// What an answer says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The document, which is for the asker to look into.
    Done(String),
    /// The device's no.
    Fault(GatewayFault),
}

/// An action and its arguments, in the order of the service's description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Action<'a> {
    /// Its name.
    pub name: &'static str,
    /// Names and values.
    pub arguments: Vec<(&'static str, std::borrow::Cow<'a, str>)>,
}

/// Opens a port, or keeps it open.
pub fn add_port_mapping<'a>(exposed: &Exposed, lease: u32, name: &'a str) -> Action<'a> {
    let port = exposed.port.port.to_string();
    Action {
        name: "AddPortMapping",
        arguments: vec![
            ("NewRemoteHost", "".into()),
            ("NewExternalPort", port.clone().into()),
            ("NewProtocol", exposed.port.protocol.name().into()),
            ("NewInternalPort", port.into()),
            ("NewInternalClient", exposed.vip.to_string().into()),
            ("NewEnabled", "1".into()),
            ("NewPortMappingDescription", name.into()),
            ("NewLeaseDuration", lease.to_string().into()),
        ],
    }
}

/// Closes a port.
pub fn delete_port_mapping(exposed: &Exposed) -> Action<'static> {
    Action { name: "DeletePortMapping", arguments: named(exposed) }
}

/// Asks for what is written down of a port.
pub fn get_specific_port_mapping_entry(exposed: &Exposed) -> Action<'static> {
    Action { name: "GetSpecificPortMappingEntry", arguments: named(exposed) }
}

/// Asks for the address outside.
pub fn get_external_ip_address() -> Action<'static> {
    Action { name: "GetExternalIPAddress", arguments: Vec::new() }
}

/// Asks whether the firewall of IPv6 is there.
pub fn get_firewall_status() -> Action<'static> {
    Action { name: "GetFirewallStatus", arguments: Vec::new() }
}

/// Opens a port of an IPv6 address.
pub fn add_pinhole(exposed: &Exposed, lease: u32) -> Option<Action<'static>> {
    let protocol = match exposed.port.protocol {
        Protocol::Sctp => return None,
        Protocol::Tcp => "6",
        Protocol::Udp => "17",
    };
    Some(Action {
        name: "AddPinhole",
        arguments: vec![
            ("RemoteHost", "".into()),
            ("RemotePort", "0".into()),
            ("InternalClient", exposed.vip.to_string().into()),
            ("InternalPort", exposed.port.port.to_string().into()),
            ("Protocol", protocol.into()),
            ("LeaseTime", lease.to_string().into()),
        ],
    })
}

/// Closes it.
pub fn delete_pinhole(number: u16) -> Action<'static> {
    Action { name: "DeletePinhole", arguments: vec![("UniqueID", number.to_string().into())] }
}

/// The whole HTTP request.
pub fn request(control: &UpnpControl, action: &Action<'_>) -> Vec<u8> {
    let UpnpControl { address, path, service } = control;
    let name = action.name;
    let arguments: String = action
        .arguments
        .iter()
        .map(|(name, it)| format!("<{name}>{}</{name}>", escaped(it)))
        .collect();
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope \
         xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:{name} xmlns:u=\"{service}\">{arguments}</u:{name}></s:Body></s:Envelope>\r\n"
    );
    let host = match address {
        SocketAddr::V4(it) => it.to_string(),
        // RFC 6874 §3: a zone is of no use to others.
        SocketAddr::V6(it) => format!("[{}]:{}", it.ip(), it.port()),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: edgevip UPnP/1.1\r\n\
         Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{service}#{name}\"\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Whether all of an answer has come, as far as its head tells; else it ends with the connection.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Ok(Some(head)) = head(bytes) else {
        return false;
    };
    let body = &bytes[head.end..];
    match head.length {
        Some(length) => body.len() >= length,
        None => head.chunked && unchunked(body).is_some_and(|it| it.1),
    }
}

/// Reads an answer to the end of its connection.
pub fn read(bytes: &[u8]) -> Result<Answer, GarbledAnswer> {
    let garbled = |field, why| GarbledAnswer { field, why };
    let head = head(bytes)?.ok_or(garbled("head", "the answer ends within it"))?;
    let body = &bytes[head.end..];
    let body = match (head.chunked, head.length) {
        (true, _) => unchunked(body).ok_or(garbled("body", "not in chunks"))?.0,
        (false, Some(length)) => {
            body.get(..length).ok_or(garbled("body", "shorter than it should be"))?.to_vec()
        }
        (false, None) => body.to_vec(),
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    match head.status {
        200 => Ok(Answer::Done(text)),
        status => Ok(Answer::Fault(fault_of(status, &text))),
    }
}

/// The text of the first element of that name, whatever its prefix.
pub fn text(document: &str, name: &str) -> Option<String> {
    let mut rest = document;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = &comment[comment.find("-->")? + 3..];
            continue;
        }
        let end = rest.find('>')?;
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let of = tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default();
        if of.rsplit(':').next() != Some(name) || tag.starts_with('/') {
            continue;
        }
        if tag.ends_with('/') {
            return Some(String::new());
        }
        return Some(unescaped(after[..after.find('<')?].trim()));
    }
    None
}

/// What is written down of a port.
pub fn entry(document: &str) -> Result<MappingEntry, GarbledAnswer> {
    let needed = |field| text(document, field).ok_or(GarbledAnswer { field, why: "missing" });
    let number = |field| {
        needed(field)?.parse::<u32>().map_err(|_| GarbledAnswer { field, why: "not a number" })
    };
    let port = u16::try_from(number("NewInternalPort")?);
    let port = port.map_err(|_| GarbledAnswer { field: "NewInternalPort", why: "not a port" })?;
    Ok(MappingEntry {
        client: needed("NewInternalClient")?,
        port,
        enabled: !matches!(needed("NewEnabled")?.as_str(), "0" | "false" | "no"),
        // Where there is none, nothing ends it.
        left: number("NewLeaseDuration").unwrap_or(0),
    })
}

/// The address outside; `None`: the gateway has none now.
pub fn external(document: &str) -> Option<IpAddr> {
    let ip = text(document, "NewExternalIPAddress")?.parse::<IpAddr>().ok()?;
    (!ip.is_unspecified()).then_some(ip)
}

/// Where a control URL leads, if it leads to this very device.
pub fn control_path(device: SocketAddr, url: &str) -> Option<(SocketAddr, String)> {
    let Some(rest) = url.strip_prefix("http://") else {
        let path = if url.starts_with('/') { url.to_owned() } else { format!("/{url}") };
        return is_path(&path).then_some((device, path));
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let mut there: SocketAddr = host.parse().or_else(|_| format!("{host}:80").parse()).ok()?;
    if there.ip() != device.ip() || !is_path(path) {
        return None;
    }
    if let (SocketAddr::V6(there), SocketAddr::V6(device)) = (&mut there, device) {
        there.set_scope_id(device.scope_id());
    }
    Some((there, path.to_owned()))
}

fn is_path(path: &str) -> bool {
    path.bytes().all(|it| it.is_ascii_graphic())
}

fn named(exposed: &Exposed) -> Vec<(&'static str, std::borrow::Cow<'static, str>)> {
    vec![
        ("NewRemoteHost", "".into()),
        ("NewExternalPort", exposed.port.port.to_string().into()),
        ("NewProtocol", exposed.port.protocol.name().into()),
    ]
}

struct Head {
    end: usize,
    status: u16,
    length: Option<usize>,
    chunked: bool,
}

fn head(bytes: &[u8]) -> Result<Option<Head>, GarbledAnswer> {
    const MOST: usize = 64;
    let garbled = |field, why| GarbledAnswer { field, why };
    let mut headers = [httparse::EMPTY_HEADER; MOST];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(garbled("head", "not of HTTP")),
    };
    let value = |name: &str| {
        let header = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        header.map(|it| String::from_utf8_lossy(it.value).trim().to_ascii_lowercase())
    };
    let length = match value("content-length").map(|it| it.parse::<usize>()) {
        None => None,
        Some(Ok(it)) if it <= LONGEST => Some(it),
        Some(_) => return Err(garbled("Content-Length", "not one of such an answer")),
    };
    let chunked = value("transfer-encoding").is_some_and(|it| it.contains("chunked"));
    Ok(Some(Head { end, status: response.code.unwrap_or(0), length, chunked }))
}

/// RFC 9112 §7.1: what is in the chunks, and whether the last of them has come.
fn unchunked(mut bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut whole = Vec::new();
    loop {
        let Some(line) = bytes.windows(2).position(|it| it == b"\r\n") else {
            return Some((whole, false));
        };
        let size = std::str::from_utf8(&bytes[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok().filter(|it| *it <= LONGEST)?;
        bytes = &bytes[line + 2..];
        if size == 0 {
            return Some((whole, true));
        }
        let Some(chunk) = bytes.get(..size) else {
            return Some((whole, false));
        };
        whole.extend(chunk);
        bytes = bytes.get(size + 2..).unwrap_or_default();
        if whole.len() > LONGEST {
            return None;
        }
    }
}

/// The numbers of UPnP Device Architecture 1.1 §3.2.2, WANIPConnection:2 §2.5 and
/// WANIPv6FirewallControl:1 §2.5.
fn fault_of(status: u16, document: &str) -> GatewayFault {
    let code = text(document, "errorCode").and_then(|it| it.parse::<u16>().ok());
    let Some(code) = code else {
        let no = if matches!(status, 401 | 403) { GatewayNo::NotAllowed } else { GatewayNo::Other };
        return GatewayFault { no, code: status, words: "by HTTP".to_owned() };
    };
    let no = match code {
        401 | 602 => GatewayNo::Unsupported,
        606 | 702 | 703 => GatewayNo::NotAllowed,
        704 | 714 => GatewayNo::NotThere,
        718 => GatewayNo::Taken,
        725 => GatewayNo::OnlyPermanent,
        _ => GatewayNo::Other,
    };
    let words = text(document, "errorDescription").unwrap_or_default();
    let words = words.chars().filter(|it| !it.is_control()).take(80).collect();
    GatewayFault { no, code, words }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}
