//! The kernel's own netkit, in a virtual machine, beside netkitd: the same programs and frames, the same verdicts, frames,
//! counters and errors.

mod differences;
mod fields;
mod lists;
mod objects;
mod pairs;
mod redirects;
mod report;
mod script;
mod selftests;
mod verdicts;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use netkit_tests::kernel::Daemon;
use netkit_tests::kernel::scenario::{Interpreter, Observation, Scenario, Work};
use netkit_tests::not_run;
use netkit_tests::rig::{Guest, GuestConfig, GuestFile, Kernel, Shell, image, outer};

use objects::Objects;
use report::Report;

const WORK: &str = "/scenarios.json";
const PROGRAM: &str = "/usr/bin/kernel-netkit";

/// All scenarios take this long at most in the virtual machine.
const LIMIT: Duration = Duration::from_secs(150);

#[test]
fn netkitd_does_what_the_kernel_does() {
    let name = "kernel_netkit";
    let directory = tempfile::tempdir().unwrap();
    let objects = match objects::compile(directory.path()) {
        Ok(objects) => objects,
        Err(why) => return not_run(name, &why),
    };
    if let Err(error) = image::kernel(Kernel::Host) {
        return not_run(name, &error.to_string());
    }
    let scenarios = scenarios();
    let begun = Instant::now();
    let guest = start_guest(&objects, &scenarios);
    let ours = observe_daemon(&objects, &scenarios);
    println!("netkitd: {} scenarios in {:.1?}", ours.len(), begun.elapsed());
    let netkit = guest.run("grep -q ' netkit_xmit$' /proc/kallsyms").unwrap();
    if netkit.status != 0 {
        return not_run(name, "the kernel of the image has no netkit");
    }
    println!("the kernel was up after {:.1?}", begun.elapsed());
    let kernel = observe_kernel(&guest);
    println!(
        "the kernel: {} scenarios, all done after {:.1?}",
        kernel.len(),
        begun.elapsed()
    );
    let report = Report::new(&scenarios, &kernel, &ours);
    report.print();
    report.check(chosen());
}

/// Whether only some scenarios are run, those with `NETKIT_SCENARIO` in their names.
fn chosen() -> bool {
    std::env::var_os("NETKIT_SCENARIO").is_some()
}

fn scenarios() -> Vec<Scenario> {
    let wanted = std::env::var("NETKIT_SCENARIO").unwrap_or_default();
    let all = [
        pairs::scenarios(),
        lists::scenarios(),
        verdicts::scenarios(),
        redirects::scenarios(),
        fields::scenarios(),
        selftests::scenarios(),
    ];
    let chosen = all.into_iter().flatten().filter(|it| it.name.contains(&wanted));
    chosen.collect()
}

fn start_guest(objects: &Objects, scenarios: &[Scenario]) -> Guest {
    let work = Work {
        objects: objects
            .iter()
            .map(|(name, (_, code))| (name.clone(), code.clone()))
            .collect(),
        scenarios: scenarios.to_vec(),
    };
    let work = serde_json::to_vec(&work).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_kernel-netkit"));
    let config = GuestConfig::new("kernel")
        .kernel(Kernel::Host)
        .memory_mib(512)
        .files(outer::files_of_binary_as(program, PROGRAM).unwrap())
        .files([GuestFile::bytes(work, WORK, 0o644)]);
    Guest::start(config).unwrap()
}

/// What each step of each scenario observed.
type Observed = BTreeMap<String, Vec<Observation>>;

fn observe_kernel(guest: &Guest) -> Observed {
    let output = guest.run_within(&format!("{PROGRAM} {WORK}"), LIMIT).unwrap();
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, guest.console());
    let lines = output.stdout.lines().filter(|line| line.starts_with('['));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn observe_daemon(objects: &Objects, scenarios: &[Scenario]) -> Observed {
    let observe = |scenario: &Scenario| {
        let observed = Daemon::start(objects).run(scenario);
        (scenario.name.clone(), observed)
    };
    scenarios.iter().map(observe).collect()
}
