//! A traced frame for a person: what happened in order, and how it ended.

use netkit_api::{TraceStep, Traced};

use crate::cli::Options;
use crate::error::Error;
use crate::octets::{answered_base64, dump};

/// Changed registers stand in a column behind the instructions.
const INSTRUCTION: usize = 44;

/// With `-d` the frame as it would be delivered follows.
pub fn text(traced: &Traced, options: Options) -> Result<String, Error> {
    let mut text: String = traced.steps.iter().map(step).collect();
    text += &format!("{}\n", traced.outcome);
    if options.details {
        text += &dump(&answered_base64(&traced.frame)?);
    }
    Ok(text)
}

fn step(step: &TraceStep) -> String {
    match step {
        TraceStep::Device { device, text } => format!("{device}: {text}\n"),
        TraceStep::Program { id, name } => format!("  program {name} id {id}\n"),
        TraceStep::Instruction {
            at,
            text,
            registers,
            source,
        } => {
            let source = source
                .as_ref()
                .map_or(String::new(), |source| format!("    ; {source}\n"));
            let line = format!("{at:4}: {text:INSTRUCTION$} {registers}");
            format!("{source}    {}\n", line.trim_end())
        }
        TraceStep::Helper { text } => format!("    call {text}\n"),
        TraceStep::Verdict { code, text } => format!("  verdict {code} {text}\n"),
        TraceStep::Note { text } => format!("  {text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::to_base64;

    #[test]
    fn steps_are_lines() {
        let instruction = |at, text: &str, registers: &str, source: Option<&str>| TraceStep::Instruction {
            at,
            text: text.into(),
            registers: registers.into(),
            source: source.map(Into::into),
        };
        let traced = Traced {
            steps: vec![
                TraceStep::Device {
                    device: "nk0".into(),
                    text: "l3 primary, peer nk1, 1 program".into(),
                },
                TraceStep::Program {
                    id: 7,
                    name: "filter".into(),
                },
                instruction(
                    0,
                    "(b7) r1 = 5",
                    "r1=0x5",
                    Some("filter.c:12: return bpf_redirect(5, 0);"),
                ),
                instruction(1, "(85) call bpf_redirect#23", "", None),
                TraceStep::Helper {
                    text: "bpf_redirect(ifindex=5, flags=0) = 7".into(),
                },
                TraceStep::Verdict {
                    code: 7,
                    text: "TC_ACT_REDIRECT".into(),
                },
                TraceStep::Note {
                    text: "redirected to nk2".into(),
                },
            ],
            outcome: "nk3 receives the frame.".into(),
            receiver: Some("nk3".into()),
            drop: None,
            frame: to_base64(&[0x45]),
        };
        let plain = text(&traced, Options::default()).expect("base64");
        assert_eq!(
            plain,
            "\
nk0: l3 primary, peer nk1, 1 program
  program filter id 7
    ; filter.c:12: return bpf_redirect(5, 0);
       0: (b7) r1 = 5                                  r1=0x5
       1: (85) call bpf_redirect#23
    call bpf_redirect(ifindex=5, flags=0) = 7
  verdict 7 TC_ACT_REDIRECT
  redirected to nk2
nk3 receives the frame.
"
        );
        let options = Options {
            details: true,
            ..Options::default()
        };
        let details = text(&traced, options).expect("base64");
        assert_eq!(details, plain + &dump(&[0x45]));
    }
}
