//! What is the same on both sides, what differs on purpose, and what is wrong.

use std::collections::BTreeMap;

use netkit_tests::kernel::scenario::{Observation, Scenario, Step};

use super::Observed;
use super::differences::{self, DIFFERENCES};

/// The comparison of all steps.
#[derive(Default)]
pub struct Report {
    equal: usize,
    documented: usize,
    /// How often each row of the table of differences was needed.
    needed: BTreeMap<usize, usize>,
    wrong: Vec<String>,
}

impl Report {
    /// Compares both sides, step by step.
    pub fn new(scenarios: &[Scenario], kernel: &Observed, ours: &Observed) -> Report {
        let mut report = Report::default();
        for scenario in scenarios {
            for (index, step) in scenario.steps.iter().enumerate() {
                let of = |side: &Observed| -> Observation {
                    let observed = side.get(&scenario.name).and_then(|steps| steps.get(index));
                    observed.cloned().unwrap_or_default()
                };
                let place = format!("{} [{index}]", scenario.name);
                report.step(&place, step, &of(kernel), &of(ours));
            }
        }
        report
    }

    /// `place` begins with the scenario's name.
    fn step(&mut self, place: &str, step: &Step, kernel: &Observation, ours: &Observation) {
        let broken = |it: &Observation| it.is_null() || it.get("broken").is_some();
        let paths = differences::between(kernel, ours);
        let rows: Option<Vec<usize>> = paths.iter().map(|path| differences::find(place, path)).collect();
        match rows.filter(|_| !broken(kernel) && !broken(ours)) {
            Some(rows) if rows.is_empty() => self.equal += 1,
            Some(rows) => {
                self.documented += 1;
                for row in rows {
                    *self.needed.entry(row).or_default() += 1;
                }
            }
            None => self
                .wrong
                .push(format!("{place} {step:?}\n  kernel  {kernel}\n  netkitd {ours}")),
        }
    }

    /// Says how much there is of each.
    pub fn print(&self) {
        println!(
            "{} steps are equal, {} differ as documented:",
            self.equal, self.documented
        );
        for (row, difference) in DIFFERENCES.iter().enumerate() {
            let needed = self.needed.get(&row).copied().unwrap_or_default();
            println!(
                "  {}: {} ({needed} times): {}",
                difference.scenario, difference.what, difference.why
            );
        }
    }

    /// Fails if anything is wrong, or if a row of the table is not needed although all scenarios were run.
    pub fn check(&self, only_some: bool) {
        let wrong = &self.wrong;
        assert!(wrong.is_empty(), "{}\n{} steps", wrong.join("\n"), wrong.len());
        for (row, difference) in DIFFERENCES.iter().enumerate() {
            assert!(
                only_some || self.needed.contains_key(&row),
                "{} does not differ any more: {}",
                difference.scenario,
                difference.what
            );
        }
    }
}
