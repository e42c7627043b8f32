//! What all rounds of a work gave, and how that compares.

use serde::Serialize;
use serde_json::{Value, json};

use super::peers::Kind;
use super::statistics::{Ratio, Summary};
use super::works::{Figure, Goal, Measured, Work};

/// One measurement.
#[derive(Debug, Clone)]
pub struct Round {
    pub number: usize,
    pub peer: Kind,
    pub outcome: Outcome,
}

/// How it went.
#[derive(Debug, Clone)]
pub enum Outcome {
    Kept(Measured),
    /// Somebody was disturbed.
    Discarded(String, Measured),
    Failed(String),
}

/// All rounds of one work.
#[derive(Debug, Clone)]
pub struct Results {
    pub work: &'static Work,
    pub rounds: Vec<Round>,
    /// Who could not take part, and why.
    pub not_run: Vec<(Kind, String)>,
}

/// One line of the table: one figure of ours and of one peer's.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub work: &'static str,
    pub figure: Figure,
    pub ours: Kind,
    pub theirs: Kind,
    pub our_summary: Option<Summary>,
    pub their_summary: Option<Summary>,
    pub ratio: Option<Ratio>,
    pub goal: Goal,
    /// None where there is nothing to compare.
    pub met: Option<bool>,
}

impl Results {
    /// What a peer's rounds gave for a figure, by their number; a round that does not count gives none.
    fn values(&self, kind: Kind, figure: Figure) -> Vec<Option<f64>> {
        let count = self
            .rounds
            .iter()
            .map(|round| round.number + 1)
            .max()
            .unwrap_or(0);
        let mut values = vec![None; count];
        for round in self.rounds.iter().filter(|round| round.peer == kind) {
            if let Outcome::Kept(measured) = &round.outcome {
                values[round.number] = measured.figure(figure);
            }
        }
        values
    }

    /// How many turns of a peer's were discarded, and how many failed.
    pub fn lost(&self, kind: Kind) -> (usize, usize) {
        let of = |wanted: fn(&Outcome) -> bool| {
            let rounds = self.rounds.iter().filter(|round| round.peer == kind);
            rounds.filter(|round| wanted(&round.outcome)).count()
        };
        (
            of(|it| matches!(it, Outcome::Discarded(..))),
            of(|it| matches!(it, Outcome::Failed(_))),
        )
    }

    /// Why a peer has no figures.
    pub fn why_not(&self, kind: Kind) -> Option<String> {
        if let Some((_, why)) = self.not_run.iter().find(|(it, _)| *it == kind) {
            return Some(why.clone());
        }
        let mut rounds = self.rounds.iter().filter(|round| round.peer == kind).peekable();
        rounds.peek()?;
        if rounds
            .clone()
            .any(|round| matches!(round.outcome, Outcome::Kept(_)))
        {
            return None;
        }
        rounds.next_back().map(|round| match &round.outcome {
            Outcome::Failed(why) => why.clone(),
            Outcome::Discarded(why, _) => format!("every round was discarded: {why}"),
            Outcome::Kept(_) => String::new(),
        })
    }

    /// Ours beside each of theirs.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let figures = self.work.figures.iter();
        figures
            .flat_map(|figure| {
                self.work
                    .theirs
                    .iter()
                    .map(|theirs| self.compare(*figure, *theirs))
            })
            .collect()
    }

    fn compare(&self, figure: Figure, theirs: Kind) -> Comparison {
        let (our_values, their_values) = (self.values(self.work.ours, figure), self.values(theirs, figure));
        let summary = |values: &[Option<f64>]| {
            let counted: Vec<f64> = values.iter().copied().flatten().collect();
            Summary::of(&counted)
        };
        let our_summary = summary(&our_values);
        let ratio = Ratio::of(&our_values, &their_values, figure.higher_is_better());
        let met = match self.work.goal {
            Goal::Ratio(goal) => ratio.map(|ratio| ratio.of_medians >= goal),
            Goal::AtMost(goal) => our_summary.map(|ours| ours.median <= goal),
        };
        Comparison {
            work: self.work.id,
            figure,
            ours: self.work.ours,
            theirs,
            our_summary,
            their_summary: summary(&their_values),
            ratio,
            goal: self.work.goal,
            met,
        }
    }

    /// Everything that was measured.
    pub fn to_json(&self) -> Value {
        let not_run = self
            .not_run
            .iter()
            .map(|(kind, why)| json!({ "peer": kind, "why": why }));
        json!({
            "work": self.work.id,
            "title": self.work.title,
            "rounds": self.rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
            "comparisons": self.comparisons(),
            "not_run": not_run.collect::<Vec<_>>(),
        })
    }
}

impl Round {
    fn to_json(&self) -> Value {
        let (outcome, why, measured) = match &self.outcome {
            Outcome::Kept(measured) => ("kept", None, Some(measured)),
            Outcome::Discarded(why, measured) => ("discarded", Some(why), Some(measured)),
            Outcome::Failed(why) => ("failed", Some(why), None),
        };
        json!({
            "round": self.number,
            "peer": self.peer,
            "outcome": outcome,
            "why": why,
            "back_end": measured.map(|it| it.back_end),
            "back_end_share": measured.and_then(|it| it.back_end).map(|share| share.part()),
            "generator_share": measured.and_then(|it| it.generator),
            "raw": measured.map(|it| &it.raw),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::works::WORKS;
    use super::*;

    /// The first work, with these rates of netkitd and DPDK in turns, of which those below 0 were disturbed.
    pub fn results(ours: &[f64], theirs: &[f64]) -> Results {
        let turn = |number: usize, peer, rate: f64| {
            let measured = Measured {
                figures: vec![(Figure::FramesPerSecond, rate.abs())],
                generator: Some(1.0),
                back_end: None,
                raw: Value::Null,
            };
            let outcome = match rate < 0.0 {
                true => Outcome::Discarded("the back end had 50 % of its core".to_owned(), measured),
                false => Outcome::Kept(measured),
            };
            Round {
                number,
                peer,
                outcome,
            }
        };
        let mut rounds = Vec::new();
        for number in 0..ours.len() {
            rounds.push(turn(number, Kind::Netkitd, ours[number]));
            rounds.push(turn(number, Kind::Dpdk, theirs[number]));
        }
        Results {
            work: &WORKS[0],
            rounds,
            not_run: vec![(Kind::Ovs, "it is not installed".to_owned())],
        }
    }

    #[test]
    fn discarded_rounds_do_not_count() {
        let results = results(&[2e6, -9e6, 4e6], &[1e6, 1e6, 2e6]);
        let with_dpdk = &results.comparisons()[0];
        assert_eq!(with_dpdk.our_summary.unwrap().median, 3e6);
        let ratio = with_dpdk.ratio.unwrap();
        assert_eq!(
            (ratio.of_medians, ratio.of_rounds, ratio.pairs),
            (3.0, Some(2.0), 2)
        );
        assert_eq!(with_dpdk.met, Some(true));
        assert_eq!(results.lost(Kind::Netkitd), (1, 0));
    }

    #[test]
    fn a_turn_that_was_taken_again_counts_once() {
        let mut results = results(&[-2e6, 4e6], &[1e6, 2e6]);
        let mut again = results.rounds[2].clone();
        again.number = 0;
        results.rounds.insert(1, again);
        assert_eq!(
            results.values(Kind::Netkitd, Figure::FramesPerSecond),
            [Some(4e6), Some(4e6)]
        );
        assert_eq!(results.comparisons()[0].ratio.unwrap().pairs, 2);
        assert_eq!(results.lost(Kind::Netkitd), (1, 0));
    }

    #[test]
    fn who_did_not_run_is_neither_met_nor_missed() {
        let results = results(&[1.0], &[2.0]);
        let comparisons = results.comparisons();
        assert_eq!((comparisons[0].met, comparisons[1].met), (Some(false), None));
        assert_eq!(results.why_not(Kind::Ovs).unwrap(), "it is not installed");
        assert_eq!(results.why_not(Kind::Netkitd), None);
    }

    #[test]
    fn who_was_disturbed_each_time_has_no_figures() {
        let results = results(&[1.0], &[-2.0]);
        assert!(
            results
                .why_not(Kind::Dpdk)
                .unwrap()
                .starts_with("every round was discarded")
        );
        assert_eq!(results.comparisons()[0].ratio, None);
    }
}
