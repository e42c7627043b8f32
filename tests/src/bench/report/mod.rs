//! What was measured, for people and for programs.

mod table;

use std::path::Path;

use serde_json::{Value, json};

use super::command_line::Options;
use super::host_facts::HostFacts;
use super::results::Results;
use super::share::ENOUGH;
use super::{Error, Result};

/// Writes `latest.md` and `latest.json` into a directory.
pub fn write(directory: &Path, facts: &HostFacts, options: &Options, results: &[Results]) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::io("make", directory.display().to_string()))?;
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", path.display().to_string()))
    };
    put("latest.md", table::page(facts, options, results))?;
    let json = serde_json::to_string_pretty(&to_json(facts, options, results)).unwrap_or_default();
    put("latest.json", json + "\n")
}

/// How many measurements could not be made.
pub fn count_not_run(results: &[Results]) -> usize {
    results.iter().map(|it| table::not_run(it).len()).sum()
}

fn to_json(facts: &HostFacts, options: &Options, results: &[Results]) -> Value {
    json!({
        "host": facts,
        "rounds": options.rounds,
        "timing": options.timing,
        "share_below_which_a_round_is_discarded": ENOUGH,
        "not_run": count_not_run(results),
        "works": results.iter().map(Results::to_json).collect::<Vec<_>>(),
    })
}
