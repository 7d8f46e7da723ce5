//! A few texts by key, in as little room as they need: each of thousands of objects has some.

use std::collections::BTreeMap;
use std::ops::Index;

use serde::{Deserialize, Serialize};

/// Texts by key, in the order of keys.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Words(Box<[(Box<str>, String)]>);

impl Words {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// What stands under the key.
    pub fn get(&self, key: &str) -> Option<&String> {
        let at = self.0.binary_search_by(|it| it.0.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|it| &it.1)
    }

    /// Whether anything stands under the key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each key and its text, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, text)| (key.as_ref(), text.as_str()))
    }

    /// Puts a text under a key; returns what stood there.
    pub fn insert(&mut self, key: String, text: String) -> Option<String> {
        self.change(|all| all.insert(key, text))
    }

    /// Removes what stands under a key, and returns it.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.change(|all| all.remove(key))
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        let mut all = BTreeMap::from(std::mem::take(self));
        let result = change(&mut all);
        *self = all.into();
        result
    }
}

impl Index<&str> for Words {
    type Output = String;

    fn index(&self, key: &str) -> &String {
        self.get(key).expect("there is a text of that key")
    }
}

impl From<BTreeMap<String, String>> for Words {
    fn from(all: BTreeMap<String, String>) -> Self {
        let tight = |(key, mut text): (String, String)| {
            text.shrink_to_fit();
            (key.into_boxed_str(), text)
        };
        Self(all.into_iter().map(tight).collect())
    }
}

impl From<Words> for BTreeMap<String, String> {
    fn from(words: Words) -> Self {
        words.0.into_iter().map(|(key, text)| (key.into_string(), text)).collect()
    }
}

impl FromIterator<(String, String)> for Words {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(all: I) -> Self {
        all.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl Extend<(String, String)> for Words {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, more: I) {
        self.change(|all| all.extend(more));
    }
}

impl<const N: usize> From<[(String, String); N]> for Words {
    fn from(all: [(String, String); N]) -> Self {
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_key_and_written_as_a_map() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let mut words: Words = [pair("b", "2"), pair("a", "1")].into();
        words.insert("c".into(), "3".into());
        words.insert("a".into(), "4".into());
        words.remove("b");
        assert_eq!((words.get("a"), words.get("b")), (Some(&"4".to_owned()), None));
        let text = serde_json::to_string(&words).unwrap();
        assert_eq!(text, r#"{"a":"4","c":"3"}"#);
        assert_eq!(serde_json::from_str::<Words>(&text).unwrap(), words);
    }
}
