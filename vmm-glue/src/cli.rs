//! The command line: options as iproute2 has them, then an object and its command.

use std::path::PathBuf;

use vmm_glue::client::DEFAULT_SOCKET;

use crate::command::Command;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};

/// A command line that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    pub socket: PathBuf,
    pub options: Options,
    pub command: Command,
}

/// How to print.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub json: bool,
    pub pretty: bool,
    pub details: bool,
    pub statistics: bool,
}

impl Invocation {
    /// `socket` is what the environment says.
    pub fn parse(arguments: &[String], socket: Option<PathBuf>) -> Result<Invocation, UsageError> {
        let mut words = Words::new(arguments);
        let mut options = Options::default();
        let mut chosen = None;
        while let Some(word) = words.peek().filter(|word| word.starts_with('-')) {
            words.next();
            if word == "--" {
                break;
            }
            // Options are named with one hyphen and may be written with two.
            let name = word.strip_prefix("--").unwrap_or(&word[1..]);
            match name.split_once('=') {
                Some(("api", path)) => chosen = Some(path.into()),
                _ if abbreviates(name, "api") => chosen = Some(words.value()?.into()),
                _ => options.set(name, word)?,
            }
        }
        let default = || socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
        Ok(Invocation {
            socket: chosen.unwrap_or_else(default),
            options,
            command: Command::parse(&mut words)?,
        })
    }
}

impl Options {
    /// With bpftool, `-p` alone asks for JSON, too.
    pub fn as_bpftool(self) -> Options {
        Options {
            json: self.json || self.pretty,
            ..self
        }
    }

    fn set(&mut self, name: &str, word: &str) -> Result<(), UsageError> {
        match name {
            _ if abbreviates(name, "statistics") || abbreviates(name, "stats") => self.statistics = true,
            _ if abbreviates(name, "details") => self.details = true,
            _ if abbreviates(name, "json") => self.json = true,
            _ if abbreviates(name, "pretty") => self.pretty = true,
            _ if abbreviates(name, "Version") => return Err(UsageError::Information(help::VERSION)),
            _ if abbreviates(name, "help") => return Err(UsageError::Information(help::GENERAL)),
            _ => return Err(UsageError::UnknownOption(word.into())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(line: &str, environment: Option<&str>) -> Invocation {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Invocation::parse(&words, environment.map(PathBuf::from)).expect(line)
    }

    #[test]
    fn options_may_be_abbreviated_and_have_one_hyphen_or_two() {
        let all = Options {
            json: true,
            pretty: true,
            details: true,
            statistics: true,
        };
        for line in [
            "-j -p -d -s link",
            "-json -pretty -details -statistics link",
            "--json --pretty --details --stats link",
            "-js -pre -det -stat -- link",
        ] {
            assert_eq!(invocation(line, None).options, all, "{line}");
        }
        assert_eq!(invocation("link", None).options, Options::default());
    }

    #[test]
    fn the_option_wins_over_the_environment_and_that_over_the_default() {
        let socket = |line, environment| invocation(line, environment).socket;
        assert_eq!(socket("link", None), PathBuf::from("/run/netkitd/api.sock"));
        assert_eq!(socket("link", Some("/env")), PathBuf::from("/env"));
        for line in [
            "--api /option link",
            "-api /option link",
            "-a /option link",
            "--api=/option link",
        ] {
            assert_eq!(socket(line, Some("/env")), PathBuf::from("/option"), "{line}");
        }
    }
}
