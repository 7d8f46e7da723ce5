use std::fmt;

use ring::hmac::{self, HMAC_SHA256, Key, Tag};

/// Fewer bytes can be guessed.
const SHORTEST: usize = 16;
/// Known to all: tells what was broken on the way, not who made it.
const PUBLIC: &[u8] = b"edgevip, without a key";

/// What members know each other by.
#[derive(Clone)]
pub struct Keys {
    current: Key,
    previous: Option<Key>,
}

impl Keys {
    /// Makes with the current key, and also takes what was made with the previous one, so that
    /// keys can be changed one member at a time.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self { current: key(current)?, previous: previous.map(key).transpose()? })
    }

    /// No secret: whoever reaches the port can say anything.
    pub fn insecure() -> Self {
        Self { current: Key::new(HMAC_SHA256, PUBLIC), previous: None }
    }

    pub(super) fn tag(&self, body: &[u8]) -> Tag {
        hmac::sign(&self.current, body)
    }

    pub(super) fn made(&self, body: &[u8], tag: &[u8]) -> bool {
        let mut keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
        keys.any(|it| hmac::verify(it, body, tag).is_ok())
    }
}

fn key(bytes: &[u8]) -> Result<Key, String> {
    match bytes.len() {
        SHORTEST.. => Ok(Key::new(HMAC_SHA256, bytes)),
        1 => Err(format!("a key of 1 byte is too short: {SHORTEST} or more are needed")),
        count => Err(format!("a key of {count} bytes is too short: {SHORTEST} or more are needed")),
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
