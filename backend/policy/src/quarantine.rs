//! Keeps a program from running that is stopped too often: a fault costs more than most frames do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Fault;

/// When a program goes into quarantine, and what becomes of its frames then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineRule {
    /// Faults within a second that are one too many; 0 is never.
    pub faults_per_second: u32,
    /// What a program in quarantine is taken to return; None is as if it were stopped.
    pub verdict: Option<i32>,
}

impl Default for QuarantineRule {
    fn default() -> Self {
        QuarantineRule {
            faults_per_second: 16,
            verdict: None,
        }
    }
}

/// The faults of one program.
#[derive(Debug)]
pub struct Quarantine {
    rule: QuarantineRule,
    active: AtomicBool,
    faults: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    count: u32,
    last: Option<Fault>,
}

impl Quarantine {
    /// A program without faults.
    pub fn new(rule: QuarantineRule) -> Quarantine {
        Quarantine {
            rule,
            active: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            recent: Mutex::default(),
        }
    }

    /// Whether the program is not to be run.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// What the program is taken to return then.
    pub fn verdict(&self) -> Option<i32> {
        self.rule.verdict
    }

    /// Faults since the program was loaded.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// The last fault.
    pub fn last(&self) -> Option<Fault> {
        self.lock().last.clone()
    }

    /// Lets the program run again.
    pub fn release(&self) {
        let mut recent = self.lock();
        (recent.since, recent.count) = (None, 0);
        self.active.store(false, Ordering::Relaxed);
    }

    /// Takes note of a fault. True if it was the one too many.
    #[cold]
    pub fn record(&self, fault: Fault) -> bool {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.lock();
        recent.last = Some(fault);
        let now = Instant::now();
        let begun = recent
            .since
            .is_some_and(|since| now - since < Duration::from_secs(1));
        if !begun {
            recent.since = Some(now);
            recent.count = 0;
        }
        recent.count += 1;
        let limit = self.rule.faults_per_second;
        limit != 0 && recent.count >= limit && !self.active.swap(true, Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;

    #[test]
    fn too_many_faults_in_a_second_are_the_end_until_somebody_says_otherwise() {
        let quarantine = Quarantine::new(QuarantineRule {
            faults_per_second: 3,
            verdict: Some(-1),
        });
        let fault = || Fault {
            kind: FaultKind::Fuel,
            program: 1,
            name: "test".to_owned(),
            instruction: 7,
            line: None,
        };
        assert!(!quarantine.record(fault()) && !quarantine.record(fault()));
        assert!(!quarantine.is_active());
        assert!(quarantine.record(fault()));
        assert!(quarantine.is_active());
        assert!(!quarantine.record(fault()), "it is said once");
        quarantine.release();
        assert!(!quarantine.is_active());
        assert_eq!((quarantine.faults(), quarantine.last()), (4, Some(fault())));
    }
}
