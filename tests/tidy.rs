//! The rules of the house, as a test. The map is in `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Which layer may import which.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("engine", &["model", "wire"]),
    ("io", &["model", "wire"]),
    ("config", &["model"]),
    ("lab", &["io", "model", "wire"]),
    ("manifest", &["config"]),
    ("cli", &["config", "lab", "manifest"]),
    ("shell", &["config", "engine", "io", "model", "wire"]),
];

/// What is no layer: constants of the crate.
const NO_LAYER: &[&str] = &["VERSION", "BUILD"];

/// What the pure layers may not even name.
const IMPURE: &[&str] = &[
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "SystemTime",
    "async_",
    "smol::",
    "ureq::",
    "nix::",
    "libc::",
];

/// A room that one can hold in mind. The table of settings is data.
const LONGEST: usize = 450;
const MAY_BE_LONGER: &[&str] = &["src/config/settings/others.rs", "src/config/settings/built.rs"];

#[test]
fn layers_point_downwards() {
    let mut faults = Vec::new();
    for (file, text) in sources(Path::new("src")) {
        let layer = layer_of(&file);
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == layer).map(|(_, it)| *it);
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            for used in line.split("crate::").skip(1).flat_map(first_words) {
                let known = used == layer || NO_LAYER.contains(&used);
                if !known && allowed.is_some_and(|it| !it.contains(&used)) {
                    faults.push(format!("{place}: {layer} imports {used}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pure_layers_name_nothing_impure() {
    let mut faults = Vec::new();
    for (file, text) in sources(Path::new("src")) {
        if !["model", "wire", "engine"].contains(&layer_of(&file).as_str()) {
            continue;
        }
        for (number, line) in product(&text).lines().enumerate() {
            let code = !line.trim_start().starts_with("//");
            let named = IMPURE.iter().filter(|it| code && line.contains(*it));
            let place = format!("{}:{}", file.display(), number + 1);
            faults.extend(named.map(|it| format!("{place} names {it}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_room_can_be_held_in_mind() {
    let long = sources(Path::new("src")).into_iter().filter(|(file, text)| {
        let exempt = MAY_BE_LONGER.iter().any(|it| file == Path::new(it));
        !exempt && product(text).lines().count() > LONGEST
    });
    let long: Vec<_> = long.map(|(file, _)| file.display().to_string()).collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {}", long.join(", "));
}

#[test]
fn nothing_is_left_half_done() {
    let marks = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
    for (file, text) in sources(Path::new("src")) {
        for mark in marks {
            assert!(!text.contains(mark), "{} says {mark}", file.display());
        }
    }
}

#[test]
fn no_runtime_but_smol_and_no_foreign_build_system() {
    let lock = fs::read_to_string("Cargo.lock").unwrap();
    for name in ["tokio", "async-std", "openssl-sys", "aws-lc-sys", "bindgen", "cmake", "prost"] {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is in the tree");
    }
}

#[test]
fn every_dependency_says_why() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let table = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for line in table.lines().filter(|it| it.contains('=')) {
        assert!(line.contains(" # "), "no reason beside: {line}");
    }
}

/// What ships: a file without its tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(dir).expect("a folder").map(|it| it.expect("an entry").path());
    let files = entries.flat_map(|it| {
        if it.is_dir() {
            return sources(&it);
        }
        let tests = it.file_name().is_some_and(|it| it == "tests.rs");
        if tests {
            Vec::new()
        } else {
            vec![(it.clone(), fs::read_to_string(&it).expect("a text"))]
        }
    });
    files.collect()
}

fn layer_of(file: &Path) -> String {
    let first = file.components().nth(1).expect("a file below src");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// `a::b`, `{a::b, c}`: the names right behind `crate::`.
fn first_words(text: &str) -> Vec<&str> {
    let (list, many) = match text.strip_prefix('{') {
        Some(rest) => (rest.split('}').next().unwrap_or(rest), true),
        None => (text, false),
    };
    let words = list
        .split(", ")
        .map(|it| it.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap_or(""));
    words.take(if many { usize::MAX } else { 1 }).filter(|it| !it.is_empty()).collect()
}
