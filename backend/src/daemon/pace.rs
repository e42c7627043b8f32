//! What is not to be done too often, whoever would like it to be.

use std::time::{Duration, Instant};

/// When something was last done, and how soon it may be done again.
#[derive(Debug)]
pub struct Pace {
    pause: Duration,
    last: Option<Instant>,
    wanted: bool,
}

impl Pace {
    /// It is done with a pause of this length at least.
    pub fn new(pause: Duration) -> Pace {
        Pace {
            pause,
            last: None,
            wanted: false,
        }
    }

    /// It is to be done.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// When it is to be done, if it is.
    pub fn due(&self) -> Option<Instant> {
        self.wanted
            .then(|| self.last.map_or_else(Instant::now, |last| last + self.pause))
    }

    /// Whether it is to be done now. Then it is taken to be done.
    pub fn take(&mut self, now: Instant) -> bool {
        let is_rested = |last| now.saturating_duration_since(last) >= self.pause;
        let is_due = self.wanted && self.last.is_none_or(is_rested);
        if is_due {
            (self.last, self.wanted) = (Some(now), false);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_done_at_once_and_then_after_a_pause() {
        let (pause, now) = (Duration::from_secs(1), Instant::now());
        let mut pace = Pace::new(pause);
        assert!(!pace.take(now) && pace.due().is_none());
        pace.want();
        assert!(pace.take(now) && !pace.take(now + pause));
        pace.want();
        assert!(!pace.take(now + pause / 2));
        assert_eq!(pace.due(), Some(now + pause));
        assert!(pace.take(now + pause));
    }
}
