//! A configuration of OpenWrt: what is made of it is understood, and what is not says where.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use edgevip::config::sources::Sources;
use edgevip::config::{resolve, uci};
use libfuzzer_sys::{Corpus, fuzz_target};

const MADE: &str = "/made.toml";

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(bytes) else { return Corpus::Reject };
    let networks = BTreeMap::from([("lan".to_owned(), "br-lan".to_owned())]);
    let key = |path: &Path| match path.to_str() {
        Some(uci::KEY) => Ok("0123456789abcdef".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match uci::from_uci(text, &networks, &sources(&key, BTreeMap::new())) {
        Err(faults) => {
            assert!(!faults.0.is_empty());
            assert!(faults.0.iter().all(|it| it.setting.starts_with("edgevip")), "{faults}");
        }
        Ok(it) => {
            assert!(it.toml.contains(uci::RESTART), "{}", it.toml);
            let made = |path: &Path| match path.to_str() {
                Some(MADE) => Ok(it.toml.clone()),
                _ => key(path),
            };
            let env = BTreeMap::from([("config_file".to_owned(), MADE.to_owned())]);
            resolve(&sources(&made, env)).expect("it was understood before");
        }
    }
    Corpus::Keep
});

fn sources<'a>(
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    env: BTreeMap<String, String>,
) -> Sources<'a> {
    Sources { flags: Vec::new(), env, hostname: "n1".into(), read, is_open: &|_| false }
}
