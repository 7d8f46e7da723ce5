//! YAML as a JSON value, of bounded size.
//!
//! Numbers stay text, for every reader here wants the text. Aliases are refused: they
//! let a few lines grow to gigabytes, and neither kubeconfigs nor settings need them.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::values::{self, MAX_FILE};

const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 64;

/// Understands the first document of a YAML text.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.len() > MAX_FILE {
        return Err(format!("more than {MAX_FILE} bytes"));
    }
    let mut parser = Parser::new_from_str(text);
    let mut tree = Tree::default();
    loop {
        let (event, mark) = parser.next_token().map_err(|it| it.to_string())?;
        match event {
            Event::DocumentEnd | Event::StreamEnd => return Ok(tree.root.unwrap_or_default()),
            event => tree.take(event).map_err(|it| format!("{it} in line {}", mark.line()))?,
        }
    }
}

#[derive(Default)]
struct Tree {
    root: Option<Value>,
    open: Vec<Open>,
    nodes: usize,
}

enum Open {
    Mapping { entries: Map<String, Value>, key: Option<String> },
    Sequence(Vec<Value>),
}

impl Tree {
    fn take(&mut self, event: Event) -> Result<(), &'static str> {
        match event {
            Event::Alias(_) => Err("aliases are not understood"),
            Event::MappingStart(..) => self.enter(Open::Mapping { entries: Map::new(), key: None }),
            Event::SequenceStart(..) => self.enter(Open::Sequence(Vec::new())),
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                Some(Open::Mapping { entries, .. }) => self.put(Value::Object(entries)),
                Some(Open::Sequence(items)) => self.put(Value::Array(items)),
                None => Ok(()),
            },
            Event::Scalar(text, style, ..) => self.put(scalar(text, style)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn enter(&mut self, open: Open) -> Result<(), &'static str> {
        if self.open.len() == MAX_DEPTH {
            return Err("nested too deeply");
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, value: Value) -> Result<(), &'static str> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("too many values");
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence(items)) => items.push(value),
            Some(Open::Mapping { entries, key }) => match (key.take(), value) {
                (Some(key), value) => drop(entries.insert(key, value)),
                // Keys in keys, each spelt out in the next, would double with each level.
                (None, Value::Object(_) | Value::Array(_)) => {
                    return Err("a key that is a mapping or a list is not understood");
                }
                (None, value) => *key = Some(values::spelled(&value)),
            },
        }
        Ok(())
    }
}

fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let text = "a: 1\nb: [x, 'yes', yes]\nc:\n  d: |\n    two\n    lines\n  e:\n---\nnext: 1\n";
        let value =
            json!({"a": "1", "b": ["x", "yes", true], "c": {"d": "two\nlines\n", "e": null}});
        assert_eq!(parse(text), Ok(value));
        assert_eq!(parse(""), Ok(Value::Null));
        assert_eq!(parse("{\"a\": {\"b\": \"c\"}}"), Ok(json!({"a": {"b": "c"}})));
    }

    #[test]
    fn what_would_grow_is_refused() {
        let bomb = "a: &a [x, x]\nb: [*a, *a]\n";
        assert!(parse(bomb).unwrap_err().contains("aliases"));
        assert!(parse(&"[".repeat(200_000)).is_err());
        assert!(
            parse(&format!("{}{}", "[".repeat(65), "]".repeat(65))).unwrap_err().contains("deep")
        );
        assert!(parse(&"- a\n".repeat(MAX_NODES + 1)).unwrap_err().contains("too many"));
        assert!(parse(&" ".repeat(MAX_FILE + 1)).is_err());
        let keys_in_keys = format!("{}{}", "{".repeat(40), "}".repeat(40));
        assert!(parse(&keys_in_keys).unwrap_err().contains("key"));
        assert!(parse("? [a]\n: b\n").unwrap_err().contains("key"));
        assert!(parse("a: [").is_err());
    }
}
