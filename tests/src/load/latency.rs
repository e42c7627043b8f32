//! A distribution of times, kept in a fixed amount of memory.

use serde::Serialize;

/// Exact to one part in this many.
const PRECISION: u32 = 256;
const BITS: u32 = PRECISION.ilog2();

/// How often each time was seen.
#[derive(Debug, Clone)]
pub struct Distribution {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

/// What is told of a distribution, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub median: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
    pub count: u64,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution {
            counts: vec![0; (64 - BITS as usize + 1) * PRECISION as usize],
            count: 0,
            max: 0,
        }
    }
}

impl Distribution {
    /// Adds a time in nanoseconds.
    #[inline]
    pub fn add(&mut self, time: u64) {
        self.counts[class(time)] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// `None` of nothing.
    pub fn summary(&self) -> Option<Summary> {
        (self.count > 0).then(|| Summary {
            median: self.quantile(50),
            p90: self.quantile(90),
            p99: self.quantile(99),
            max: self.max,
            count: self.count,
        })
    }

    fn quantile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(class).min(self.max);
            }
        }
        self.max
    }
}

/// Times below `PRECISION` have a class each; above, each doubling is cut into `PRECISION` classes of the same width.
fn class(time: u64) -> usize {
    let shift = (time | u64::from(PRECISION - 1)).ilog2() + 1 - BITS;
    let within = (time >> shift) as usize;
    if shift == 0 {
        return within;
    }
    shift as usize * (PRECISION as usize / 2) + within
}

fn middle(class: usize) -> u64 {
    let half = PRECISION as usize / 2;
    if class < PRECISION as usize {
        return class as u64;
    }
    let shift = class / half - 1;
    let within = class - shift * half;
    ((within as u64) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_narrow() {
        for time in (0..5000).chain([1 << 20, 123_456_789, 1 << 40, u64::MAX >> 1]) {
            let middle = middle(class(time));
            assert!(middle.abs_diff(time) <= time / 100, "{time} as {middle}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut distribution = Distribution::default();
        assert_eq!(distribution.summary(), None);
        (1..=100).for_each(|time| distribution.add(time));
        let summary = distribution.summary().unwrap();
        assert_eq!((summary.median, summary.p90, summary.p99), (50, 90, 99));
        assert_eq!((summary.max, summary.count), (100, 100));
    }
}
