//! A recording, decided again: what the engine was told, and what it did about it.

use std::path::Path;

use serde::Deserialize;

use crate::engine::{Config, Input, Node, Rng};
use crate::io::recorder;
use crate::model::Instant;

#[derive(Deserialize)]
struct Header {
    seed: u64,
    config: Config,
}

/// Prints each input of the recording, and the actions that follow from it.
pub fn replay(path: &Path) -> Result<(), String> {
    let at = |it: &dyn std::fmt::Display| format!("{}: {it}", path.display());
    let (header, lines) = recorder::read::<Input>(path).map_err(|it| at(&it))?;
    let header: Header = serde_json::from_value(header).map_err(|it| at(&it))?;
    let mut node: Option<Node> = None;
    for line in lines {
        let (now, input): (Instant, Input) = line.map_err(|it| at(&it))?;
        let fresh = || Node::new(header.config.clone(), Rng::from_seed(header.seed), now);
        println!("{now:?} {input:?}");
        for action in node.get_or_insert_with(fresh).handle(now, input) {
            println!("    {action:?}");
        }
    }
    Ok(())
}
