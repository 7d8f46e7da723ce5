//! Line by line: arguments, variables separated by `;`, what the name of the settings file
//! ends in; then the file.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use edgevip::cli::parse;
use edgevip::config::sources::{Given, Sources};
use edgevip::config::{Config, Faults, Resolved, explain, resolve};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(bytes) else { return Corpus::Reject };
    let [args, variables, kind, file] = lines(text);
    let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
    let flags = match parse(&args) {
        Ok(invocation) => invocation.flags,
        Err(faults) => {
            let _ = faults.to_string();
            Vec::new()
        }
    };
    let mut env: BTreeMap<String, String> = variables
        .split(';')
        .filter_map(|it| it.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    if !kind.is_empty() {
        env.insert("config_file".into(), format!("/f.{kind}"));
    }
    match resolved(flags, env.clone(), file) {
        Ok(it) => can_be_said_in_variables(it, env, file),
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
    Corpus::Keep
});

fn lines(text: &str) -> [&str; 4] {
    let mut lines = text.splitn(4, '\n');
    [(); 4].map(|()| lines.next().unwrap_or_default())
}

fn resolved(
    flags: Vec<Given>,
    env: BTreeMap<String, String>,
    file: &str,
) -> Result<Resolved, Faults> {
    let read = |path: &Path| match path.to_str().is_some_and(|it| it.starts_with("/f.")) {
        true => Ok(file.to_owned()),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    let is_open = &|_: &Path| false;
    resolve(&Sources { flags, env, hostname: "n1".into(), read: &read, is_open })
}

fn can_be_said_in_variables(it: Resolved, mut env: BTreeMap<String, String>, file: &str) {
    fits_together(&it.config);
    let _ = explain::values(&it.explained);
    env.extend(it.explained.into_iter().map(|it| (it.setting.name().to_owned(), it.value)));
    let again = resolved(Vec::new(), env, file).expect("what is in force can be asked for");
    assert_eq!(again.config, it.config);
}

fn fits_together(config: &Config) {
    let lease = &config.lease;
    assert!(!config.vips.is_empty() && !config.node.0.is_empty());
    assert!(lease.duration > lease.renew_deadline && lease.renew_deadline > lease.retry_period);
    assert!(!lease.retry_period.is_zero() && config.refresh.as_millis() >= 500);
    assert!((1..=32).contains(&config.length_v4) && (1..=128).contains(&config.length_v6));
}
