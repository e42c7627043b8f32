//! Where netkitd's worker spends its time at 64 B: sampled by the clock, since virtual machines often count nothing else.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::flame::Node;
use super::generator::Generator;
use super::peers::{Kind, Peer};
use super::works::{Figure, Timing};
use super::{Error, Result};
use crate::rig::Process;

const SAMPLES_PER_SECOND: &str = "1999";

/// Loads a netkitd, and writes `flame.svg` and `top.txt` into a directory. Gives the latter.
pub fn run(generator: &Generator, timing: Timing, directory: &Path) -> Result<String> {
    let peer = Peer::start(Kind::Netkitd, generator.huge_pages)?;
    let threads = peer.forwarding_threads()?;
    let thread = threads
        .iter()
        .filter_map(|task| task.file_name()?.to_str())
        .next();
    let thread = thread.ok_or_else(|| Error::Missing("netkitd has no worker".to_owned()))?;
    let scratch = tempfile::tempdir().map_err(Error::io("make", "a temporary directory"))?;
    let data = scratch.path().join("perf.data");

    // Samples are taken over the middle of the load.
    let length = format!("{}", timing.seconds);
    let longer = Timing {
        warm_up: timing.warm_up,
        seconds: timing.seconds + 1.0,
    };
    let mut record = Command::new("sh");
    record.args(["-c", "sleep \"$1\"; exec perf record -q -e cpu-clock -g -F \"$2\" -t \"$3\" -o \"$4\" -- sleep \"$5\" >/dev/null 2>&1", "sh"]);
    record
        .args([&(timing.warm_up + 0.5).to_string(), SAMPLES_PER_SECOND, thread])
        .arg(&data)
        .arg(&length);
    let perf = Process::spawn(record).map_err(|source| Error::Start {
        program: "perf".to_owned(),
        source,
    })?;
    let measured = generator.measure(&peer, true, &["--mode", "both-ways", "--size", "64"], longer)?;
    while perf.status().map_err(Error::io("wait for", "perf"))?.is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let samples = Node::from_perf(&script(&data)?);
    if samples.total == 0 {
        return Err(Error::Missing("perf has taken no samples".to_owned()));
    }
    let rate = measured.figure(Figure::FramesPerSecond).unwrap_or(0.0);
    let title = format!(
        "netkitd's worker, both ways, 64 B, split ring: {}, {} samples",
        Figure::FramesPerSecond.show(rate),
        samples.total
    );
    let mut top = format!("{title}\n\n");
    for (name, part) in samples.top(10) {
        let _ = writeln!(top, "{:6.2} %  {name}", 100.0 * part);
    }
    std::fs::create_dir_all(directory).map_err(Error::io("make", directory.display().to_string()))?;
    for (name, text) in [("flame.svg", samples.to_svg(&title)), ("top.txt", top.clone())] {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", path.display().to_string()))?;
    }
    Ok(top)
}

fn script(data: &Path) -> Result<String> {
    let mut command = Command::new("perf");
    command.args(["script", "-F", "ip,sym", "-i"]).arg(data);
    let output = command.output().map_err(|source| Error::Start {
        program: "perf".to_owned(),
        source,
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::Failed {
            program: "perf script".to_owned(),
            said: Error::tail(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}
