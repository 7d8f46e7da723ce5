//! What is said to a gateway and by it.

pub mod natpmp;
pub mod pcp;
pub mod soap;

use std::fmt;

/// What cannot be understood of an answer: the field, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GarbledAnswer {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for GarbledAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// The bytes at this place, if the answer is long enough for them.
fn part<const N: usize>(
    bytes: &[u8],
    at: usize,
    field: &'static str,
) -> Result<[u8; N], GarbledAnswer> {
    let part = bytes.get(at..at + N).and_then(|it| it.try_into().ok());
    part.ok_or(GarbledAnswer { field, why: "the answer ends before it" })
}
