//! Medians, spread and ratios of rounds.

use serde::Serialize;

/// What several rounds say about one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Rounds that count.
    pub rounds: usize,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// First quartile.
    pub lower: f64,
    /// Third quartile.
    pub upper: f64,
}

impl Summary {
    /// Of these values; none of no values.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            rounds: sorted.len(),
            median: quantile(&sorted, 0.5)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
            lower: quantile(&sorted, 0.25)?,
            upper: quantile(&sorted, 0.75)?,
        })
    }

    /// The interquartile range in parts of the median.
    pub fn relative_spread(&self) -> f64 {
        match self.median {
            0.0 => 0.0,
            median => (self.upper - self.lower) / median,
        }
    }
}

/// Between the two values around it, in proportion.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// How many times better we are than a peer: above 1 is better, whichever way the figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Of the two medians.
    pub of_medians: f64,
    /// The median of the ratios of rounds in which both were measured.
    pub of_rounds: Option<f64>,
    /// How many such rounds there were.
    pub pairs: usize,
}

impl Ratio {
    /// From values by round; a round that does not count has none. There is none of values that are not above 0.
    pub fn of(ours: &[Option<f64>], theirs: &[Option<f64>], higher_is_better: bool) -> Option<Ratio> {
        let better = |ours: f64, theirs: f64| {
            let (above, below) = if higher_is_better {
                (ours, theirs)
            } else {
                (theirs, ours)
            };
            (above > 0.0 && below > 0.0).then(|| above / below)
        };
        let median = |values: &[Option<f64>]| {
            let counted: Vec<f64> = values.iter().copied().flatten().collect();
            Summary::of(&counted).map(|summary| summary.median)
        };
        let pairs: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .filter_map(|(ours, theirs)| better((*ours)?, (*theirs)?))
            .collect();
        Some(Ratio {
            of_medians: better(median(ours)?, median(theirs)?)?,
            of_rounds: Summary::of(&pairs).map(|summary| summary.median),
            pairs: pairs.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_does_not_depend_on_the_order_of_rounds() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                rounds: 5,
                median: 3.0,
                min: 1.0,
                max: 5.0,
                lower: 2.0,
                upper: 4.0
            }
        );
        assert_eq!(summary.relative_spread(), 2.0 / 3.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((summary.lower, summary.median, summary.upper), (1.75, 2.5, 3.25));
    }

    #[test]
    fn there_is_no_summary_of_nothing() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn a_ratio_above_one_means_that_we_are_better() {
        let (ours, theirs) = ([Some(6.0), Some(6.0)], [Some(3.0), Some(3.0)]);
        assert_eq!(Ratio::of(&ours, &theirs, true).unwrap().of_medians, 2.0);
        assert_eq!(Ratio::of(&ours, &theirs, false).unwrap().of_medians, 0.5);
    }

    #[test]
    fn ratios_of_rounds_take_only_rounds_in_which_both_count() {
        let ours = [Some(2.0), None, Some(8.0), Some(9.0)];
        let theirs = [Some(1.0), Some(1.0), Some(2.0), None];
        let ratio = Ratio::of(&ours, &theirs, true).unwrap();
        assert_eq!((ratio.pairs, ratio.of_rounds), (2, Some(3.0)));
        assert_eq!(ratio.of_medians, 8.0);
    }

    #[test]
    fn there_is_no_ratio_with_nothing() {
        assert_eq!(Ratio::of(&[Some(0.0)], &[Some(100.0)], false), None);
        assert_eq!(Ratio::of(&[None], &[Some(1.0)], true), None);
        let apart = Ratio::of(&[Some(2.0), None], &[None, Some(1.0)], true).unwrap();
        assert_eq!((apart.pairs, apart.of_rounds, apart.of_medians), (0, None, 2.0));
    }
}
