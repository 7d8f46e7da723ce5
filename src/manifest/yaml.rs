//! JSON values as YAML 1.1 text, in the form that Kubernetes' own tools write.

use serde_json::Value;

/// One document, or several that each begin with `---`.
pub(super) fn documents(all: &[Value]) -> String {
    let mut text = String::new();
    for it in all {
        if all.len() > 1 {
            text += "---\n";
        }
        block(&mut text, it, 0);
    }
    text
}

/// What is below a key or is a document; keys in their order, which is the alphabet's.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                text.extend(std::iter::repeat_n(' ', indent));
                entry(text, key, value, indent);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.extend(std::iter::repeat_n(' ', indent));
                text.push_str("- ");
                list_item(text, item, indent);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *text += &scalar(value);
            text.push('\n');
        }
    }
}

/// An object's first key stands beside the dash.
fn list_item(text: &mut String, item: &Value, indent: usize) {
    let Value::Object(entries) = item else {
        *text += &scalar(item);
        return text.push('\n');
    };
    for (number, (key, value)) in entries.iter().enumerate() {
        if number > 0 {
            text.extend(std::iter::repeat_n(' ', indent + 2));
        }
        entry(text, key, value, indent + 2);
    }
}

fn entry(text: &mut String, key: &str, value: &Value, indent: usize) {
    *text += &word(key);
    text.push(':');
    match value {
        Value::Object(it) if !it.is_empty() => {
            text.push('\n');
            block(text, value, indent + 2);
        }
        // A list is no deeper than its key.
        Value::Array(it) if !it.is_empty() => {
            text.push('\n');
            block(text, value, indent);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            text.push(' ');
            *text += &scalar(value);
            text.push('\n');
        }
    }
}

/// A list in a list and what is empty are written as JSON, which is YAML too.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// Text that no reader takes for anything else than text.
fn word(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let quoted = Value::from(text).to_string();
    quoted.chars().fold(String::new(), |all, it| match it {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
            all + &format!("\\u{:04x}", u32::from(it))
        }
        it => all + it.encode_utf8(&mut [0; 4]),
    })
}

fn is_plain(text: &str) -> bool {
    const MEANS_MORE: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let bytes = text.as_bytes();
    let inside = |it: &u8| it.is_ascii_alphanumeric() || b"_./:@$()-".contains(it);
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    // Numbers may have dots, colons, underscores and letters; addresses have three dots.
    let is_address =
        text.split('.').count() == 4 && bytes.iter().all(|it| it.is_ascii_digit() || *it == b'.');
    let begins = first.is_ascii_alphabetic() || *first == b'/' || is_address;
    begins
        && bytes.iter().all(inside)
        && *last != b':'
        && !MEANS_MORE.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yaml_rust2::YamlLoader;

    use super::*;

    #[test]
    fn lists_stand_below_their_key_and_keys_beside_the_dash() {
        let value = json!({
            "b": [{ "name": "x", "value": "true" }, "one"], "a": { "d": {}, "c": [] }, "z": 1,
        });
        let text = "a:\n  c: []\n  d: {}\nb:\n- name: x\n  value: \"true\"\n- one\nz: 1\n";
        assert_eq!(documents(std::slice::from_ref(&value)), text);
        assert_eq!(documents(&[json!({"a": 1}), json!({"b": 2})]), "---\na: 1\n---\nb: 2\n");
        let deep = json!({ "spec": { "x": [{ "t": { "z": ["w1"] }, "q": [{"r": null}] }] } });
        let text = "spec:\n  x:\n  - q:\n    - r: null\n    t:\n      z:\n      - w1\n";
        assert_eq!(documents(&[deep]), text);
    }

    #[test]
    fn text_stays_text() {
        let plain = ["eth0", "192.0.2.40", "first", "/etc/x.conf", "$(a):[b", "a:b", "v1.2-3"];
        for text in plain.iter().filter(|it| !it.contains('[')) {
            assert_eq!(word(text), *text);
        }
        let others = [
            "",
            "y",
            "No",
            "true",
            "null",
            "~",
            "12",
            "1.5",
            "1e3",
            "0x1f",
            "1:30",
            "1_0",
            ".5",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#",
            "2001-01-01",
            "*",
            "&a",
            "!a",
            "%",
            "@",
            "`",
            "{}",
            "[a]",
            "\"",
            "'",
            "\\",
            "a\nb",
            "\t",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "é",
            "a:",
            ":2112",
            "10.0.0.1,fd00::1",
            "fd00::1",
            "{\"team\":\"edge\"}",
            "<<",
            "=",
            "?",
            "|",
        ];
        for text in plain.into_iter().chain(others) {
            let written = documents(&[json!({ "key": text })]);
            let read = YamlLoader::load_from_str(&written).unwrap();
            assert_eq!(read[0]["key"].as_str(), Some(text), "{written}");
        }
    }
}
