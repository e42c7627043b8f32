//! Rounds: everybody in turn does the same work, again and again, and rounds that were disturbed do not count.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::command_line::Options;
use super::generator::Generator;
use super::peers::{Kind, Peer};
use super::results::{Outcome, Results, Round};
use super::share::ENOUGH;
use super::way_out::WayOut;
use super::works::{How, Measured, Timing, WORKS, Work};
use super::{Error, Result, idle, kernel, virtio_user};

/// A peer has to carry frames before it is measured; Open vSwitch builds its pools anew when its first guests come.
const TRIES: usize = 6;
const TRIAL: Timing = Timing {
    warm_up: 0.2,
    seconds: 0.3,
};

/// How often a turn is taken that is disturbed each time, and until when: on a machine that others use, the whole would
/// take three times as long.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(22 * 60);

/// Why a measurement does not count, if it does not.
pub fn disturbed(measured: &Measured) -> Option<String> {
    let percent = |part: f64| format!("{:.0} % of its core", 100.0 * part);
    if let Some(share) = measured.back_end.filter(|share| share.part() < ENOUGH) {
        return Some(format!("the back end had {}", percent(share.part())));
    }
    let generator = measured.generator.filter(|part| *part < ENOUGH);
    generator.map(|part| format!("the generator had {}", percent(part)))
}

/// The whole benchmark.
#[derive(Debug)]
pub struct Bench<'a> {
    pub options: &'a Options,
    pub generator: Generator,
    running: HashMap<Kind, std::result::Result<Peer, String>>,
    way_out: Option<std::result::Result<WayOut, String>>,
    begun: Instant,
}

impl<'a> Bench<'a> {
    /// Nobody runs yet.
    pub fn new(options: &'a Options, generator: Generator) -> Bench<'a> {
        Bench {
            options,
            generator,
            running: HashMap::new(),
            way_out: None,
            begun: Instant::now(),
        }
    }

    /// Does every work that was asked for.
    pub fn run(&mut self) -> Vec<Results> {
        let wanted: Vec<&'static Work> = WORKS.iter().filter(|work| self.options.wants(work.id)).collect();
        let mut all = Vec::new();
        for (index, work) in wanted.iter().enumerate() {
            all.push(self.work(work));
            let later = &wanted[index + 1..];
            self.running.retain(|kind, _| {
                later
                    .iter()
                    .any(|work| work.ours == *kind || work.theirs.contains(kind))
            });
            if !later.iter().any(|work| matches!(work.how, How::WayOut { .. })) {
                self.way_out = None;
            }
        }
        all
    }

    fn work(&mut self, work: &'static Work) -> Results {
        println!("\n{}", work.title);
        let mut results = Results {
            work,
            rounds: Vec::new(),
            not_run: Vec::new(),
        };
        let takes_part: Vec<Kind> = std::iter::once(&work.ours)
            .chain(work.theirs)
            .copied()
            .filter(|kind| match self.prepare(*kind) {
                Ok(()) => true,
                Err(why) => {
                    println!("  NOT RUN: {}: {why}", kind.title());
                    results.not_run.push((*kind, why));
                    false
                }
            })
            .collect();
        for number in 0..self.options.rounds.min(work.rounds) {
            for kind in &takes_part {
                results.rounds.extend(self.turn(work, number, *kind));
            }
        }
        results
    }

    /// Has a peer ready, and stopped.
    fn prepare(&mut self, kind: Kind) -> std::result::Result<(), String> {
        if !self.options.invites(kind) {
            return Err("not asked for (--peers)".to_owned());
        }
        if kind.way_out().is_some() {
            let started = || WayOut::start().map_err(|error| error.without_paths());
            let way_out = self.way_out.get_or_insert_with(started);
            return way_out.as_ref().map(drop).map_err(Clone::clone);
        }
        if !kind.is_back_end() {
            return kernel::is_there(kind).map_err(|error| error.without_paths());
        }
        if !self.running.contains_key(&kind) {
            let peer = self.start(kind).map_err(|error| error.without_paths());
            self.running.insert(kind, peer);
        }
        self.running[&kind].as_ref().map(drop).map_err(Clone::clone)
    }

    fn start(&self, kind: Kind) -> Result<Peer> {
        let peer = Peer::start(kind, self.generator.huge_pages)?;
        let mut tried = Ok(());
        for _ in 0..TRIES {
            tried = self
                .generator
                .measure(&peer, true, &["--mode", "both-ways", "--size", "64"], TRIAL)
                .map(drop);
            if tried.is_ok() {
                break;
            }
        }
        tried?;
        peer.check()?;
        peer.pause()?;
        Ok(peer)
    }

    /// A disturbed turn is taken again, and counted as discarded.
    fn turn(&self, work: &Work, number: usize, peer: Kind) -> Vec<Round> {
        let mut rounds = Vec::new();
        for _ in 0..ATTEMPTS {
            let outcome = match self.measure(work, peer) {
                Err(error) => Outcome::Failed(error.without_paths()),
                Ok(measured) => match disturbed(&measured) {
                    Some(why) => Outcome::Discarded(why, measured),
                    None => Outcome::Kept(measured),
                },
            };
            print(number, peer, work, &outcome);
            let again = matches!(outcome, Outcome::Discarded(..)) && self.begun.elapsed() < PATIENCE;
            rounds.push(Round {
                number,
                peer,
                outcome,
            });
            if !again {
                break;
            }
        }
        rounds
    }

    fn measure(&self, work: &Work, kind: Kind) -> Result<Measured> {
        let is_not_running = || Error::Missing(format!("{} does not run", kind.title()));
        if let Some(way) = kind.way_out() {
            let way_out = self.way_out.as_ref().and_then(|it| it.as_ref().ok());
            let way_out = way_out.ok_or_else(is_not_running)?;
            return way_out.measure(way, work, self.options.timing);
        }
        if !kind.is_back_end() {
            return kernel::measure(kind, work, self.options.timing);
        }
        let peer = self.running.get(&kind).and_then(|peer| peer.as_ref().ok());
        let peer = peer.ok_or_else(is_not_running)?;
        peer.resume()?;
        let timing = self.options.timing;
        let huge_pages = self.generator.huge_pages;
        let measured = match work.how {
            How::Load(arguments) => self.generator.measure(peer, work.busy, arguments, timing),
            How::VirtioUser { packed, size } => {
                let demanded = if packed {
                    self.generator.demand_packed_rings(peer)
                } else {
                    Ok(())
                };
                demanded.and_then(|()| virtio_user::measure(peer, packed, size, huge_pages, timing))
            }
            How::Idle => idle::measure(peer, &self.generator),
            How::WayOut { .. } => Err(Error::Missing(format!("{} is no way out", kind.title()))),
        };
        peer.pause()?;
        measured
    }
}

fn print(number: usize, kind: Kind, work: &Work, outcome: &Outcome) {
    let figures = |measured: &Measured| {
        let shown = work
            .figures
            .iter()
            .filter_map(|figure| Some(figure.show(measured.figure(*figure)?)));
        shown.collect::<Vec<_>>().join(", ")
    };
    let text = match outcome {
        Outcome::Kept(measured) => figures(measured),
        Outcome::Discarded(why, measured) => format!("{} (discarded: {why})", figures(measured)),
        Outcome::Failed(why) => format!("failed: {why}"),
    };
    println!("  {:>2} {:<28} {text}", number + 1, kind.title());
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::share::{Habit, Share, Usage};
    use super::*;

    fn measured(back_end: f64, generator: f64) -> Measured {
        let usage = Usage {
            ran: (back_end * 1000.0) as u64,
            waited: 0,
        };
        Measured {
            figures: Vec::new(),
            generator: Some(generator),
            back_end: Some(Share {
                usage,
                wall: 1000,
                habit: Habit::Polls,
            }),
            raw: Value::Null,
        }
    }

    #[test]
    fn a_round_counts_if_both_had_their_cores() {
        assert_eq!(disturbed(&measured(0.96, 0.96)), None);
        let why = disturbed(&measured(0.94, 1.0)).unwrap();
        assert_eq!(why, "the back end had 94 % of its core");
        let why = disturbed(&measured(1.0, 0.90)).unwrap();
        assert_eq!(why, "the generator had 90 % of its core");
    }
}
