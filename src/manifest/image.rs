//! Which image a Pod runs.

/// The image's repository where none is asked for.
pub const IMAGE: &str = "ghcr.io/edgevip/edgevip";

/// A reference to an image, with this version's tag where it has neither tag nor digest.
///
/// Supported: the grammar of the OCI distribution specification's references.
pub(super) fn reference(asked: Option<&str>) -> Result<String, String> {
    let asked = asked.unwrap_or(IMAGE);
    let wrong = || "not an image; give one such as ghcr.io/edgevip/edgevip:v1.0.0".to_owned();
    let (rest, digest) = match asked.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
        Some(_) => return Err(wrong()),
        None => (asked, None),
    };
    // A colon before the last slash belongs to a port.
    let name_at = rest.rfind('/').map_or(0, |it| it + 1);
    let (name, tag) = match rest.get(name_at..).and_then(|it| it.find(':')) {
        Some(at) => {
            let (name, tag) = rest.split_at(name_at + at);
            (name, Some(tag.get(1..).unwrap_or_default()))
        }
        None => (rest, None),
    };
    if !is_name(name) || !tag.is_none_or(is_tag) {
        return Err(wrong());
    }
    match (tag, digest) {
        (None, None) => Ok(format!("{asked}:{}", tag_of_this())),
        (Some(_), _) | (None, Some(_)) => Ok(asked.to_owned()),
    }
}

/// The tag of this version's image.
fn tag_of_this() -> String {
    format!("v{}", crate::VERSION)
}

fn is_name(text: &str) -> bool {
    let mut parts = text.split('/').peekable();
    // What has a dot, a colon or capitals in front is a registry.
    let registry = parts.next_if(|it| {
        let host = it.contains(['.', ':']) || *it == "localhost";
        host && text.contains('/')
    });
    let registry_fine = registry.is_none_or(|it| {
        let (host, port) = it.rsplit_once(':').unwrap_or((it, "1"));
        let plain = |it: u8| it.is_ascii_alphanumeric() || b".-".contains(&it);
        !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok()
    });
    let part = |it: &str| {
        let edge = |it: Option<&u8>| it.is_some_and(|it| it.is_ascii_alphanumeric());
        let bytes = it.as_bytes();
        let inside =
            |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"._-".contains(it);
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inside)
    };
    text.len() < 256 && registry_fine && parts.all(part)
}

fn is_tag(text: &str) -> bool {
    let inside = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    let first = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric() || it == b'_');
    first && text.len() < 129 && text.bytes().all(inside)
}

fn is_digest(text: &str) -> bool {
    let hex = |it: &str| it.len() >= 32 && it.bytes().all(|it| it.is_ascii_hexdigit());
    text.split_once(':').is_some_and(|(kind, rest)| is_tag(kind) && hex(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_added_where_there_is_none() {
        let tag = tag_of_this();
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        let kept = ["edgevip:1", "a.b/c/d:v1_x", "localhost:5000/edgevip:latest", digest.as_str()];
        for it in kept {
            assert_eq!(reference(Some(it)).as_deref(), Ok(it));
        }
        let completed = [IMAGE, "edgevip", "localhost:5000/edgevip", "r.example:1/a/b-c"];
        for it in completed {
            assert_eq!(reference(Some(it)), Ok(format!("{it}:{tag}")));
        }
        assert_eq!(reference(None), Ok(format!("{IMAGE}:{tag}")));
        let wrong = [
            "",
            "A/b",
            "a b",
            "a:",
            "a/:b",
            "a//b",
            "-a",
            "a@sha256:1",
            "a@",
            "https://a/b",
            "a:b:c",
            "a/b:ü",
            "r.example:x/a",
        ];
        for it in wrong {
            assert!(reference(Some(it)).is_err(), "{it:?}");
        }
    }
}
