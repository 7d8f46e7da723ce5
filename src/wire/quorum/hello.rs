//! What a member says to everybody on its link.

use super::BadDatagram;
use super::reader::{Coded, Reader};
use super::writer::{Write, Writer};
use crate::model::Hello;

impl Write for Hello {
    fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put(&self.address);
        to.put(&self.witness);
        to.put(&self.voters);
        to.put(&self.cluster);
        to.put(&self.hears);
        to.put(&self.set);
        to.put(&self.pledged);
    }
}

impl Coded for Hello {
    fn read(from: &mut Reader<'_>) -> Result<Self, BadDatagram> {
        Ok(Self {
            address: from.get("hello address")?,
            witness: from.get("hello witness")?,
            voters: from.get("hello voters")?,
            cluster: from.get("hello cluster")?,
            hears: from.get("heard")?,
            set: from.get("founding set")?,
            pledged: from.get("hello pledged")?,
        })
    }
}
