//! A recording, decided again: what the engine was told, and what it did about it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::{Config, Input, Node, Rng};
use crate::io::recorder::{self, Recorded};

#[derive(Deserialize)]
struct Header {
    seed: u64,
    config: Config,
}

/// Prints each input of the recording, and the actions that follow from it. After a torn
/// line an input is missing, so what follows of the same process is left out.
pub fn replay(path: &Path) -> Result<(), String> {
    let about = |it: &dyn std::fmt::Display| format!("{}: {it}", path.display());
    let mut header: Option<Header> = None;
    let mut node: Option<Node> = None;
    let mut torn: Option<String> = None;
    let mut goes_on = true;
    for line in recorder::read::<Header, Input>(path).map_err(|it| about(&it))? {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                torn = torn.or(Some(about(&error)));
                goes_on = false;
                continue;
            }
        };
        match line {
            Recorded::Header(it) => {
                goes_on = true;
                header = Some(it);
                node = None;
            }
            Recorded::Input(..) if !goes_on => {}
            Recorded::Input(now, input) => {
                let Some(header) = &header else {
                    return Err(about(&"not a recording: it has no header"));
                };
                let rng = || Rng::from_seed(header.seed);
                let fresh = || Node::new(header.config.clone(), rng(), now);
                println!("{now:?} {}", json(&input));
                for action in node.get_or_insert_with(fresh).handle(now, input) {
                    println!("    {}", json(&action));
                }
            }
            Recorded::Lost(count) => println!("{count} inputs were lost here"),
        }
    }
    torn.map_or(Ok(()), Err)
}

/// As the recording has it. What is recorded, and what is done about it, can be written so.
fn json(it: &impl Serialize) -> String {
    serde_json::to_string(it).unwrap_or_default()
}
