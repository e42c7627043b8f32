//! `prog tracelog`: what programs print with `bpf_trace_printk`.

use netkit_api::TraceLines;
use vmm_glue::Client;

use super::stray;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::follow::{Item, Until, follow};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};

/// `prog tracelog [follow | once]`
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tracelog {
    pub until: Until,
}

impl Tracelog {
    pub fn parse(words: &mut Words<'_>) -> Result<Tracelog, UsageError> {
        let until = match words.next() {
            None | Some("-f") => Until::Interrupted,
            Some(word) if abbreviates(word, "follow") => Until::Interrupted,
            Some(word) if abbreviates(word, "once") => Until::Once,
            Some(word) => return Err(stray(word)),
        };
        words.end("prog help")?;
        Ok(Tracelog { until })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let mut from = 0;
        follow(self.until, options, || {
            let lines = client.trace_lines(from)?;
            from = lines.next;
            Ok(items(lines))
        })
    }
}

fn items(lines: TraceLines) -> Vec<Item> {
    let lost = match lines.lost {
        0 => None,
        // As the kernel's trace_pipe says it.
        lost => Some(format!("[LOST {lost} EVENTS]")),
    };
    lost.into_iter()
        .chain(lines.lines)
        .map(|line| Item {
            text: format!("{line}\n"),
            json: line.into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::prog::Command;
    use crate::prog::tests::prog;

    #[test]
    fn follows_unless_told_otherwise() {
        let until = |line| match prog(line) {
            Command::Tracelog(tracelog) => tracelog.until,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["prog tracelog", "prog tracelog follow", "prog tracelog -f"] {
            assert_eq!(until(line), Until::Interrupted, "{line}");
        }
        assert_eq!(until("prog tracelog once"), Until::Once);
        let text = "Garbage instead of arguments \"stdout ...\". Try \"nkctl prog help\".";
        assert_eq!(refusal("prog tracelog stdout"), (text.into(), 255));
    }

    #[test]
    fn lost_lines_are_said_first() {
        let lines = TraceLines {
            lines: vec!["a".into(), "b".into()],
            next: 9,
            lost: 7,
        };
        let text: Vec<String> = items(lines).into_iter().map(|item| item.text).collect();
        assert_eq!(text, ["[LOST 7 EVENTS]\n", "a\n", "b\n"]);
    }
}
