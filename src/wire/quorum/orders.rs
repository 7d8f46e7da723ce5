//! What an operator asks of a leader through another member, and the answer.

use super::BadDatagram;
use super::reader::{Coded, Reader};
use super::writer::{Write, Writer};
use crate::model::ClusterCall;

impl Write for ClusterCall {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        match self {
            Self::Add { name, address, witness } => {
                to.bytes(&[1]);
                to.put(name);
                to.put(address);
                to.put(witness);
            }
            Self::Drain(name) => {
                to.bytes(&[2]);
                to.put(name);
            }
            Self::Move(vip, name) => {
                to.bytes(&[3]);
                to.put(vip);
                to.put(name);
            }
            Self::Promote(name) => {
                to.bytes(&[4]);
                to.put(name);
            }
            Self::Remove(name) => {
                to.bytes(&[5]);
                to.put(name);
            }
            Self::Undrain(name) => {
                to.bytes(&[6]);
                to.put(name);
            }
            Self::Unmove(vip) => {
                to.bytes(&[7]);
                to.put(vip);
            }
            Self::Readdress { name, address } => {
                to.bytes(&[8]);
                to.put(name);
                to.put(address);
            }
        }
    }
}

impl Coded for ClusterCall {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            1 => Ok(Self::Add {
                name: from.get("added name")?,
                address: from.get("added address")?,
                witness: from.get("added witness")?,
            }),
            2 => from.get("drained").map(Self::Drain),
            3 => Ok(Self::Move(from.get("moved VIP")?, from.get("moved to")?)),
            4 => from.get("promoted").map(Self::Promote),
            5 => from.get("removed").map(Self::Remove),
            6 => from.get("undrained").map(Self::Undrain),
            7 => from.get("no longer moved").map(Self::Unmove),
            8 => Ok(Self::Readdress {
                name: from.get("moved member")?,
                address: from.get("new address")?,
            }),
            _ => Err(from.bad()),
        }
    }
}

impl Write for Result<String, String> {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        let (good, Ok(words) | Err(words)) = (self.is_ok(), self);
        to.bytes(&[u8::from(good)]);
        to.words(words);
    }
}

impl Coded for Result<String, String> {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        let good = bool::read(from)?;
        let words = from.words()?;
        Ok(if good { Ok(words) } else { Err(words) })
    }
}
