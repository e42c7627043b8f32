//! `nkctl worker`: the data-path threads, and which serves which queue.

use netkit_api::Worker;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, changing};
use crate::help;
use crate::link::device_name;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, number};

/// `worker { show | move }`
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show,
    Move { device: String, queue: u32, worker: u32 },
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        match command {
            _ if is("show") || is("list") => {
                words.end("worker help")?;
                Ok(Command::Show)
            }
            _ if is("move") => {
                let device = device_name(words, help::WORKER)?;
                let queue = number(words.value()?, "queue")?;
                let worker = number(words.value()?, "worker")?;
                words.end("worker help")?;
                Ok(Command::Move {
                    device,
                    queue,
                    worker,
                })
            }
            _ if is("help") => Err(UsageError::Information(help::WORKER)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "worker",
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show => {
                let workers = client.workers()?;
                match options.json {
                    true => Output::json(&workers, options),
                    false => Ok(Output::text(text(&workers))),
                }
            }
            Command::Move {
                device,
                queue,
                worker,
            } => {
                client
                    .move_queue(device, *queue, *worker)
                    .map_err(changing(device))?;
                Ok(Output::nothing())
            }
        }
    }
}

fn text(workers: &[Worker]) -> String {
    let mut text = String::new();
    for worker in workers {
        let seconds = worker.busy_ns as f64 / 1e9;
        text += &format!("{}: busy {seconds:.3} s", worker.worker);
        if let Some(processor) = worker.processor {
            text += &format!(" processor {processor}");
        }
        text.push('\n');
        for queue in &worker.queues {
            let fixed = if queue.fixed { " fixed" } else { "" };
            text += &format!(
                "    dev {} queue {} frames {}{fixed}\n",
                queue.device, queue.queue, queue.frames
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use netkit_api::ServedQueue;

    use super::*;
    use crate::link::tests::{parse, refusal};

    #[test]
    fn show_and_move() {
        let command = |line| match parse(line) {
            Ok(crate::command::Command::Worker(command)) => command,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(command("worker"), Command::Show);
        assert_eq!(command("worker list"), Command::Show);
        let moved = Command::Move {
            device: "nk0".into(),
            queue: 3,
            worker: 1,
        };
        assert_eq!(command("worker move nk0 3 1"), moved);
        assert_eq!(command("wo m dev nk0 3 1"), moved);
        assert_eq!(refusal("worker move nk0 3").1, 255);
        assert_eq!(refusal("worker move nk0 x 1").1, 255);
        assert_eq!(refusal("worker move nk0 3 1 2").1, 255);
    }

    #[test]
    fn a_worker_is_a_line_and_each_of_its_queues_another() {
        let workers = [Worker {
            worker: 0,
            processor: Some(2),
            busy_ns: 1_500_000_000,
            queues: vec![ServedQueue {
                device: "nk0".into(),
                queue: 1,
                frames: 7,
                fixed: true,
            }],
        }];
        let lines = "0: busy 1.500 s processor 2\n    dev nk0 queue 1 frames 7 fixed\n";
        assert_eq!(text(&workers), lines);
    }
}
