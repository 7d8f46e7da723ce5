//! A list as it arrives: its items are taken out one by one, so that no more than one of them
//! is in memory, and what is wrong with one is not the others' business.

use serde::Deserialize;

use super::{DecodeError, wrong};
use crate::model::ResourceVersion;

/// All of a list but its items.
const MAX_REST: usize = 64 * 1024;

/// Reads a list, whatever pieces it comes in.
#[derive(Debug)]
pub struct ListReader {
    place: Place,
    /// Brackets that are open, those of an item among them.
    depth: usize,
    text: Text,
    /// The list without its items.
    rest: Vec<u8>,
    /// Where in `rest` the last text on the uppermost level is.
    last_text: (usize, usize),
    item: Vec<u8>,
    max_item: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Item,
    Items,
    Outside,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Text {
    /// What comes is part of a text whatever it is.
    Escaped,
    Inside,
    Outside,
}

/// What a list says beside its items.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListEnd {
    /// Its version.
    pub version: ResourceVersion,
    /// What to ask for the next page with; `None`: this was the last.
    pub next: Option<String>,
}

impl ListReader {
    /// Longer items are an error.
    pub fn new(max_item: usize) -> Self {
        Self {
            place: Place::Outside,
            depth: 0,
            text: Text::Outside,
            rest: Vec::new(),
            last_text: (0, 0),
            item: Vec::new(),
            max_item,
        }
    }

    /// Takes the next piece, and hands on each item that ends in it. An item is as well-formed
    /// as brackets and quotes show.
    pub fn read(&mut self, piece: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        for byte in piece {
            match self.place {
                Place::Item => self.inside_item(*byte, each)?,
                Place::Items => self.between_items(*byte)?,
                Place::Outside => self.outside(*byte)?,
            }
        }
        Ok(())
    }

    /// There is no more.
    pub fn end(self) -> Result<ListEnd, DecodeError> {
        #[derive(Deserialize)]
        struct List {
            kind: String,
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            resource_version: String,
            r#continue: Option<String>,
        }
        if self.place != Place::Outside {
            return Err(wrong("/items", "cut off"));
        }
        let List { kind, metadata } =
            serde_json::from_slice(&self.rest).map_err(|error| wrong("", error.to_string()))?;
        if !kind.ends_with("List") {
            return Err(wrong("/kind", "not a list"));
        }
        if metadata.resource_version.is_empty() {
            return Err(wrong("/metadata/resourceVersion", "missing"));
        }
        Ok(ListEnd {
            version: ResourceVersion(metadata.resource_version),
            next: metadata.r#continue.filter(|it| !it.is_empty()),
        })
    }

    fn inside_item(&mut self, byte: u8, each: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if self.item.len() >= self.max_item {
            return Err(wrong("/items", format!("one of more than {} bytes", self.max_item)));
        }
        self.item.push(byte);
        self.follow(byte);
        if self.depth == ITEMS {
            each(&self.item);
            self.item.clear();
            self.place = Place::Items;
        }
        Ok(())
    }

    fn between_items(&mut self, byte: u8) -> Result<(), DecodeError> {
        match byte {
            b'{' => {
                self.item.push(byte);
                self.follow(byte);
                self.place = Place::Item;
            }
            b']' => {
                self.follow(byte);
                self.rest.push(byte);
                self.place = Place::Outside;
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return Err(wrong("/items", "one that is no object")),
        }
        Ok(())
    }

    fn outside(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.rest.len() >= MAX_REST {
            return Err(wrong("", format!("more than {MAX_REST} bytes beside the items")));
        }
        let before = self.text;
        self.rest.push(byte);
        self.follow(byte);
        match (before, self.text) {
            _ if self.depth > TOP && byte != b'[' => {}
            (Text::Outside, Text::Inside) => self.last_text = (self.rest.len(), self.rest.len()),
            (Text::Inside, Text::Outside) => self.last_text.1 = self.rest.len() - 1,
            (Text::Outside, Text::Outside) if byte == b'[' && self.depth == ITEMS => {
                let (from, to) = self.last_text;
                if &self.rest[from..to] == b"items" {
                    self.place = Place::Items;
                }
            }
            (_, _) => {}
        }
        Ok(())
    }

    fn follow(&mut self, byte: u8) {
        self.text = match (self.text, byte) {
            (Text::Outside, b'"') | (Text::Escaped, _) => Text::Inside,
            (Text::Inside, b'"') => Text::Outside,
            (Text::Inside, b'\\') => Text::Escaped,
            (text, _) => text,
        };
        if self.text == Text::Outside {
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// How many brackets are open where the keys of the list are.
const TOP: usize = 1;
/// How many brackets are open between items.
const ITEMS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_out_whatever_the_pieces() {
        let text = r#"{"kind":"ServiceList","x":[{"items":[1]}],"items":
            [{"a":"]}\"\\"},
             {"b":[{"c":{}}]}, {}],"metadata":{"resourceVersion":"7","continue":"t0"}}"#;
        let items = [r#"{"a":"]}\"\\"}"#, r#"{"b":[{"c":{}}]}"#, "{}"];
        for piece in [1, 2, 3, 7, 1_000] {
            let (seen, end) = read(text, piece);
            assert_eq!(seen, items, "{piece}");
            let version = ResourceVersion("7".into());
            assert_eq!(end, Ok(ListEnd { version, next: Some("t0".into()) }), "{piece}");
        }
    }

    #[test]
    fn a_list_may_be_empty_and_in_any_order() {
        let version = || ResourceVersion("7".into());
        for items in ["null", "[]", " [ ] "] {
            let text = format!(
                r#"{{"items":{items},"metadata":{{"resourceVersion":"7","continue":""}},"kind":"AList"}}"#
            );
            assert_eq!(read(&text, 5), (vec![], Ok(ListEnd { version: version(), next: None })));
        }
        let none = r#"{"metadata":{"resourceVersion":"7"},"kind":"NodeList"}"#;
        assert_eq!(read(none, 5), (vec![], Ok(ListEnd { version: version(), next: None })));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        let long = format!(r#"{{"kind":"AList","x":"{}"}}"#, "x".repeat(MAX_REST));
        let fat = format!(r#"{{"items":[{{"x":"{}"}}]}}"#, "x".repeat(1_000));
        let table = [
            ("", ""),
            ("{}", "kind"),
            (r#"{"kind":"Status","metadata":{"resourceVersion":"7"}}"#, "not a list"),
            (r#"{"kind":"AList","metadata":{"resourceVersion":""}}"#, "missing"),
            (r#"{"kind":"AList","metadata":{}}"#, "resourceVersion"),
            (r#"{"kind":"AList","items":[{"a":1}"#, "cut off"),
            (r#"{"kind":"AList","items":[{"a":"#, "cut off"),
            (r#"{"kind":"AList","items":[7]}"#, "no object"),
            (&long, "beside the items"),
            (&fat, "more than 1000 bytes"),
        ];
        for (text, why) in table {
            let error = read(text, 100).1.unwrap_err().to_string();
            assert!(error.contains(why), "{text:.50}: {error}");
        }
    }

    #[test]
    fn a_broken_item_is_handed_on_and_those_after_it_too() {
        let text =
            r#"{"kind":"AList","items":[{"a"},{]},{"b":2}],"metadata":{"resourceVersion":"7"}}"#;
        let (seen, _) = read(text, 3);
        assert_eq!(seen[0], r#"{"a"}"#);
    }

    fn read(text: &str, piece: usize) -> (Vec<String>, Result<ListEnd, DecodeError>) {
        let mut reader = ListReader::new(1_000);
        let mut seen = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            let mut each = |item: &[u8]| seen.push(String::from_utf8(item.to_vec()).unwrap());
            if let Err(error) = reader.read(piece, &mut each) {
                return (seen, Err(error));
            }
        }
        (seen, reader.end())
    }
}
