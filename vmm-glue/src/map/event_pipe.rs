//! `map event_pipe`: what programs put out through a ring buffer or a perf event array.

use netkit_api::MapEvent;
use serde_json::json;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::follow::{Item, Until, follow};
use crate::names::MapName;
use crate::octets::{answered_hex, spaced};
use crate::usage::UsageError;
use crate::words::{Words, once, unsigned};

// include/uapi/linux/perf_event.h: enum perf_event_type
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;

/// `map event_pipe MAP [cpu N] [once]`
#[derive(Debug, PartialEq, Eq)]
pub struct EventPipe {
    pub map: MapName,
    /// Print what comes from this shard only.
    pub cpu: Option<u32>,
    pub until: Until,
}

impl EventPipe {
    pub fn parse(words: &mut Words<'_>) -> Result<EventPipe, UsageError> {
        let map = super::map(words)?;
        let (mut cpu, mut until) = (None, Until::Interrupted);
        while let Some(word) = words.next() {
            match word {
                "cpu" => {
                    let value = words.value()?;
                    once(&mut cpu, word, value, unsigned(value, "cpu")?)?;
                }
                "follow" => until = Until::Interrupted,
                "once" => until = Until::Once,
                _ => {
                    return Err(UsageError::Garbage {
                        word: word.into(),
                        help: "map help",
                    });
                }
            }
        }
        Ok(EventPipe { map, cpu, until })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let map = self.map.to_request(client)?;
        follow(self.until, options, || {
            let mut events = client.events(&map)?;
            events.retain(|event| self.cpu.is_none_or(|cpu| event.cpu == cpu));
            let items: Result<Vec<_>, _> = events.iter().map(items).collect();
            Ok(items?.concat())
        })
    }
}

/// The event, behind those that were lost before it. // map_perf_ring.c: print_bpf_output
fn items(event: &MapEvent) -> Result<Vec<Item>, Error> {
    let MapEvent { cpu, lost, data } = event;
    let octets = answered_hex(data)?;
    let mut items = Vec::new();
    if *lost != 0 {
        items.push(Item {
            text: format!("lost {lost} events\n"),
            json: json!({"type": PERF_RECORD_LOST, "cpu": cpu, "index": cpu, "lost": {"count": lost}}),
        });
    }
    items.push(Item {
        text: format!("== CPU: {cpu} index: {cpu} =====\n{}\n", spaced(&octets)),
        json: json!({"type": PERF_RECORD_SAMPLE, "cpu": cpu, "index": cpu, "data": octets}),
    });
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::map::Command;
    use crate::map::tests::command;

    #[test]
    fn one_shard_or_all() {
        let pipe = |line| match command(line) {
            Command::EventPipe(pipe) => (pipe.cpu, pipe.until),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(pipe("map event_pipe 3"), (None, Until::Interrupted));
        assert_eq!(
            pipe("map e name events cpu 2 follow"),
            (Some(2), Until::Interrupted)
        );
        assert_eq!(pipe("map event 3 once"), (None, Until::Once));
        let text = "Garbage instead of arguments \"index ...\". Try \"nkctl map help\".";
        assert_eq!(refusal("map event_pipe 3 index 0"), (text.into(), 255));
    }

    #[test]
    fn events_are_printed_as_bpftool_prints_them() {
        let event = MapEvent {
            cpu: 1,
            lost: 2,
            data: "0aff".into(),
        };
        let items = items(&event).expect("hexadecimal");
        assert_eq!(items[0].text, "lost 2 events\n");
        assert_eq!(items[1].text, "== CPU: 1 index: 1 =====\n0a ff\n");
        assert_eq!(
            items[0].json,
            json!({"type": 2, "cpu": 1, "index": 1, "lost": {"count": 2}})
        );
        assert_eq!(
            items[1].json,
            json!({"type": 9, "cpu": 1, "index": 1, "data": [10, 255]})
        );
    }
}
