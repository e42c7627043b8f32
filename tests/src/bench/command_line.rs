//! The words of `bench`.

use std::path::PathBuf;

use super::peers::Kind;
use super::works::{Timing, WORKS};

/// How to use it.
pub const USAGE: &str = "usage: bench [--rows ID,…] [--peers NAME,…] [--rounds N] [--seconds S] [--warm-up S] [--out DIRECTORY] \
    [--load PROGRAM] [--list]\n       bench profile [--seconds S] [--out DIRECTORY] [--load PROGRAM]";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Everybody side by side.
    Compare,
    /// The names of works and peers.
    List,
    /// Where netkitd spends its time.
    Profile,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub task: Task,
    /// None is all.
    pub rows: Option<Vec<String>>,
    /// None is everybody.
    pub peers: Option<Vec<String>>,
    pub rounds: usize,
    pub timing: Timing,
    pub out: PathBuf,
    /// None is the one beside this program.
    pub load: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            task: Task::Compare,
            rows: None,
            peers: None,
            rounds: 7,
            timing: Timing {
                warm_up: 0.5,
                seconds: 1.5,
            },
            out: PathBuf::from("docs/benchmarks"),
            load: None,
        }
    }
}

impl Options {
    /// Reads the words behind the program's name; says what is wrong with them.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "profile" => options.task = Task::Profile,
                "--list" => options.task = Task::List,
                _ => {
                    let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
                    options.set(&word, &value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match option {
            "--rows" => self.rows = Some(known(list(), |id| WORKS.iter().any(|work| work.id == id))?),
            "--peers" => self.peers = Some(known(list(), |id| Kind::ALL.iter().any(|kind| kind.id() == id))?),
            "--rounds" => {
                self.rounds = value
                    .parse()
                    .map_err(|_| format!("{value} is no number of rounds"))?
            }
            "--seconds" => self.timing.seconds = seconds(value)?,
            "--warm-up" => self.timing.warm_up = seconds(value)?,
            "--out" => self.out = value.into(),
            "--load" => self.load = Some(value.into()),
            _ => return Err(format!("{option} is no option")),
        }
        Ok(())
    }

    /// Whether a work is to be done.
    pub fn wants(&self, id: &str) -> bool {
        self.rows
            .as_ref()
            .is_none_or(|rows| rows.iter().any(|row| row == id))
    }

    /// Whether a peer takes part. All of ours do with `netkitd`.
    pub fn invites(&self, kind: Kind) -> bool {
        let is_named = |name: &String| name == kind.id() || (kind.is_ours() && name == Kind::Netkitd.id());
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(is_named))
    }
}

fn known(names: Vec<String>, is_known: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    match names.iter().find(|name| !is_known(name)) {
        Some(name) => Err(format!("{name} is unknown; `bench --list` has the names")),
        None => Ok(names),
    }
}

fn seconds(value: &str) -> Result<f64, String> {
    let number: Option<f64> = value.parse().ok().filter(|it| (0.05..=600.0).contains(it));
    number.ok_or_else(|| format!("{value} is no number of seconds from 0.05 to 600"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_is_run_unless_told_otherwise() {
        let options = parse("").unwrap();
        assert!(WORKS.iter().all(|work| options.wants(work.id)));
        assert!(Kind::ALL.iter().all(|kind| options.invites(*kind)));
        assert!(options.rounds >= 7);
    }

    #[test]
    fn rows_and_peers_can_be_chosen() {
        let options = parse("--rows 64-split,idle --peers netkitd,dpdk --rounds 3 --seconds 0.5").unwrap();
        assert!(options.wants("idle") && !options.wants("gso"));
        assert!(
            options.invites(Kind::NetkitdPolicy)
                && options.invites(Kind::Dpdk)
                && !options.invites(Kind::Ovs)
        );
        assert_eq!((options.rounds, options.timing.seconds), (3, 0.5));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, said) in [
            ("--rows nonsense", "nonsense is unknown"),
            ("--rounds", "needs a value"),
            ("--seconds -1", "no number of seconds"),
            ("--frobnicate 1", "no option"),
        ] {
            assert!(parse(words).unwrap_err().contains(said), "{words}");
        }
    }
}
