//! Who is to hold what, who asks to, and what voters answer.

use super::BadDatagram;
use super::reader::{Coded, Reader};
use super::writer::{Write, Writer};
use crate::model::{Assigned, Hold, HoldAnswer, HoldRefusal, Released};

impl Write for Assigned {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.vip);
        to.put(&self.epoch);
        to.put(&self.holder);
        to.put(&self.next);
    }
}

impl Coded for Assigned {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            vip: from.get("assigned VIP")?,
            epoch: from.get("assigned epoch")?,
            holder: from.get("assigned holder")?,
            next: from.get("assigned next")?,
        })
    }
}

impl Write for Hold {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.id);
        to.put(&self.config);
        to.put(&self.length);
        to.put(&self.vips);
        to.put(&self.urgent);
    }
}

impl Coded for Hold {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            id: from.get("hold id")?,
            config: from.get("hold config")?,
            length: from.get("hold length")?,
            vips: from.get("hold VIPs")?,
            urgent: from.get("hold urgent")?,
        })
    }
}

impl Write for HoldAnswer {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.id);
        to.put(&self.acknowledged);
        to.put(&self.refused);
    }
}

impl Coded for HoldAnswer {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            id: from.get("answered id")?,
            acknowledged: from.get("acknowledged")?,
            refused: from.get("refused")?,
        })
    }
}

impl Write for HoldRefusal {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        match self {
            Self::Earlier => to.bytes(&[1]),
            Self::Epoch(it) => reason(to, 2, it),
            Self::OldConfig(it) => reason(to, 3, it),
            Self::Promised(it) => reason(to, 4, it),
            Self::Released => to.bytes(&[5]),
            Self::Starting(it) => reason(to, 6, it),
            Self::TooLong(it) => reason(to, 7, it),
        }
    }
}

fn reason<'a>(to: &mut Writer<'a>, kind: u8, it: &'a impl Write) {
    to.bytes(&[kind]);
    to.put(it);
}

impl Coded for HoldRefusal {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        match from.byte()? {
            1 => Ok(Self::Earlier),
            2 => Coded::read(from).map(Self::Epoch),
            3 => Coded::read(from).map(Self::OldConfig),
            4 => Coded::read(from).map(Self::Promised),
            5 => Ok(Self::Released),
            6 => Coded::read(from).map(Self::Starting),
            7 => Coded::read(from).map(Self::TooLong),
            _ => Err(from.bad()),
        }
    }
}

impl Write for Released {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.vip);
        to.put(&self.epoch);
        to.put(&self.id);
    }
}

impl Coded for Released {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            vip: from.get("released VIP")?,
            epoch: from.get("released epoch")?,
            id: from.get("released id")?,
        })
    }
}
