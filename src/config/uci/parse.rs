//! The grammar of a file of UCI, as libuci reads it: `package`, `config`, `option` and `list`
//! lines of words, which quotes hold together, even over several lines.

use crate::config::Fault;
use crate::config::values::MAX_FILE;

/// A section, as it stands in the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Section {
    /// The word behind `config`.
    pub kind: String,
    /// Its name, or its place among those of its kind: what stands in `uci show`.
    pub path: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Each option or list once, in their order.
    pub entries: Vec<Entry>,
}

/// An option or a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// One of an option; of a list all, in their order.
    pub values: Vec<String>,
}

/// Sections of more than this are no settings of a router.
const MOST_SECTIONS: usize = 1_000;
/// Entries of a section, and values of a list.
const MOST_ENTRIES: usize = 1_000;

/// Understands a file of the package.
pub fn parse(package: &str, text: &str) -> Result<Vec<Section>, Fault> {
    let mut words = Words { rest: text.chars().peekable(), line: 1 };
    let mut sections: Vec<Section> = Vec::new();
    let fault = |line: usize, why: String| Fault::bare(format!("{package}, line {line}"), why);
    if text.len() > MAX_FILE {
        return Err(fault(1, format!("more than {MAX_FILE} bytes")));
    }
    loop {
        let (line, found) = words.statement().map_err(|(line, why)| fault(line, why.into()))?;
        let Some(found) = found else { return Ok(sections) };
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        match found[..] {
            [] => {}
            ["package", name] if name == package => {}
            ["package", name] => {
                return Err(fault(line, format!("is of the package {name}, not {package}")));
            }
            ["config", kind] => begin(&mut sections, package, kind, None),
            ["config", kind, name] if is_identifier(name) => {
                begin(&mut sections, package, kind, Some(name));
            }
            ["config", _, name] => {
                let right = "give a name of letters, digits and underscores";
                return Err(fault(line, format!("{name:?} is no name of a section; {right}")));
            }
            [word @ ("option" | "list"), key, value] if is_identifier(key) => {
                let Some(section) = sections.last_mut() else {
                    let right = "begin with a line such as: config edgevip 'global'";
                    return Err(fault(line, format!("{word} {key} is in no section; {right}")));
                };
                section.put(word == "list", key, value).map_err(|why| fault(line, why.into()))?;
            }
            [word @ ("option" | "list"), ..] => {
                let right = format!("give a name and a value: {word} NAME 'VALUE'");
                return Err(fault(line, format!("not understood; {right}")));
            }
            [word, ..] => {
                let right = "a line begins with config, option or list";
                return Err(fault(line, format!("{word:?} is not understood; {right}")));
            }
        }
        if sections.len() > MOST_SECTIONS {
            return Err(fault(line, format!("more than {MOST_SECTIONS} sections")));
        }
    }
}

/// As in libuci, a second section with a name adds to the first.
fn begin(sections: &mut Vec<Section>, package: &str, kind: &str, name: Option<&str>) {
    let same = sections.iter().position(|it| name.is_some() && it.name.as_deref() == name);
    let section = match (same, name) {
        (Some(at), _) => sections.remove(at),
        (None, Some(name)) => {
            let path = format!("{package}.{name}");
            Section { path, name: Some(name.into()), ..Section::default() }
        }
        (None, None) => {
            let before = sections.iter().filter(|it| it.kind == kind).count();
            Section { path: format!("{package}.@{kind}[{before}]"), ..Section::default() }
        }
    };
    sections.push(Section { kind: kind.into(), ..section });
}

impl Section {
    fn put(&mut self, is_list: bool, key: &str, value: &str) -> Result<(), &'static str> {
        match self.entries.iter_mut().find(|it| it.key == key) {
            Some(entry) if is_list => entry.values.push(value.into()),
            Some(entry) => entry.values = vec![value.into()],
            None => self.entries.push(Entry { key: key.into(), values: vec![value.into()] }),
        }
        let longest = self.entries.iter().map(|it| it.values.len()).max().unwrap_or_default();
        match self.entries.len().max(longest) {
            0..=MOST_ENTRIES => Ok(()),
            _ => Err("too many options in one section"),
        }
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

struct Words<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

type Unclear = (usize, &'static str);

impl Words<'_> {
    /// The words of the next statement, and the line it begins in; `None` at the end.
    fn statement(&mut self) -> Result<(usize, Option<Vec<String>>), Unclear> {
        let (line, mut words) = (self.line, Vec::new());
        loop {
            match self.rest.peek() {
                None if words.is_empty() => return Ok((line, None)),
                None => return Ok((line, Some(words))),
                Some('\n' | ';') => {
                    self.next();
                    return Ok((line, Some(words)));
                }
                Some('#') => {
                    while self.rest.peek().is_some_and(|it| *it != '\n') {
                        self.next();
                    }
                }
                Some(it) if it.is_whitespace() => drop(self.next()),
                Some(_) => words.push(self.word()?),
            }
        }
    }

    /// Pieces that stand side by side, quoted or not, are one word.
    fn word(&mut self) -> Result<String, Unclear> {
        let mut word = String::new();
        while let Some(&it) = self.rest.peek() {
            match it {
                '\n' | ';' | '#' => break,
                it if it.is_whitespace() => break,
                '\'' | '"' => self.quoted(it, &mut word)?,
                '\\' => {
                    self.next();
                    // Before the end of a line it goes on in the next.
                    word.extend(self.next().filter(|it| *it != '\n'));
                }
                _ => word.extend(self.next()),
            }
        }
        Ok(word)
    }

    fn quoted(&mut self, quote: char, word: &mut String) -> Result<(), Unclear> {
        let line = self.line;
        self.next();
        loop {
            match self.next() {
                None => return Err((line, "a quote that is opened here is never closed")),
                Some(it) if it == quote => return Ok(()),
                Some('\\') if quote == '"' => word.extend(self.next()),
                Some(it) => word.push(it),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libuci_writes_and_people_write_is_understood() {
        let text = "package edgevip\n\n# a comment\nconfig edgevip 'global'\n\toption a '1' # behind\n\
                    \toption a \"2\"\n\tlist l x\n\tlist 'l' 'y z'\n\nconfig vip\n\
                    option q 'it'\\''s \"so\"'\noption r \"a \\\"b\\\" \\\\\"\noption s pl\\ ain\n\
                    config vip; option t 'two\nlines'\nconfig vip named\nconfig other global\n\
                    option b '3'";
        let entry = |key: &str, values: &[&str]| Entry {
            key: key.into(),
            values: values.iter().map(|it| (*it).to_owned()).collect(),
        };
        let section = |kind: &str, path: &str, name: Option<&str>, entries: &[Entry]| Section {
            kind: kind.into(),
            path: format!("edgevip.{path}"),
            name: name.map(str::to_owned),
            entries: entries.to_vec(),
        };
        let vip =
            [entry("q", &["it's \"so\""]), entry("r", &["a \"b\" \\"]), entry("s", &["pl ain"])];
        let expected = [
            section("vip", "@vip[0]", None, &vip),
            section("vip", "@vip[1]", None, &[entry("t", &["two\nlines"])]),
            section("vip", "named", Some("named"), &[]),
            section(
                "other",
                "global",
                Some("global"),
                &[entry("a", &["2"]), entry("l", &["x", "y z"]), entry("b", &["3"])],
            ),
        ];
        assert_eq!(parse("edgevip", text).unwrap(), expected);
        assert_eq!(parse("edgevip", "").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let long = "config a\n".repeat(MOST_SECTIONS + 1);
        let many = format!("config a\n{}", "list l x\n".repeat(MOST_ENTRIES + 1));
        let cases = [
            ("\noption a 'b'", "line 2: option a is in no section; begin with a line such as"),
            ("config a\noption b", "line 2: not understood; give a name and a value: option NAME"),
            ("config a\noption b-c d", "line 2: not understood"),
            ("config a b-c", "line 1: \"b-c\" is no name of a section; give a name of letters"),
            ("config a 'b", "line 1: a quote that is opened here is never closed"),
            ("config a\n\nvip b c", "line 3: \"vip\" is not understood; a line begins with config"),
            ("config", "line 1: \"config\" is not understood"),
            ("package network", "line 1: is of the package network, not edgevip"),
            (&long, "line 1001: more than 1000 sections"),
            (&many, "line 1002: too many options in one section"),
        ];
        for (text, why) in cases {
            let fault = parse("edgevip", text).unwrap_err().to_string();
            assert!(fault.starts_with("edgevip, ") && fault.contains(why), "{text:?}: {fault}");
        }
        assert!(parse("edgevip", &" ".repeat(MAX_FILE + 1)).is_err());
    }
}
