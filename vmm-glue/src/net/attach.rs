//! `net attach` and `net detach`: a program and its place in a list.

use netkit_api::{ProgramAttach, ProgramAttached, ProgramDetach};
use vmm_glue::Client;
use vmm_glue::client::End;

use super::{end, stray};
use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, changing};
use crate::names::{ProgramName, id};
use crate::usage::UsageError;
use crate::words::{Words, long, once};

/// `net attach TYPE PROG dev DEV ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Attach {
    pub end: End,
    pub device: String,
    pub attach: ProgramAttach,
}

/// `net detach TYPE [PROG] dev DEV ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Detach {
    pub end: End,
    pub device: String,
    pub detach: ProgramDetach,
}

/// What both may say about the list.
#[derive(Debug, Default)]
struct Place {
    device: Option<String>,
    before: Option<String>,
    after: Option<String>,
    expected_revision: Option<u64>,
}

impl Attach {
    pub fn parse(words: &mut Words<'_>) -> Result<Attach, UsageError> {
        let end = end(words)?;
        let program = ProgramName::parse(words)?;
        let (mut place, mut replace, mut link) = (Place::default(), None, false);
        while let Some(word) = words.next() {
            match word {
                _ if place.read(word, words)? => {}
                "replace" => {
                    let value = words.peek().unwrap_or_default();
                    once(&mut replace, word, value, ProgramName::parse(words)?)?;
                }
                "link" => link = true,
                _ => return Err(stray(word)),
            }
        }
        Ok(Attach {
            end,
            device: place.device.ok_or(UsageError::Missing("dev"))?,
            attach: ProgramAttach {
                program: program.to_request(),
                link,
                before: place.before,
                after: place.after,
                replace: replace.as_ref().map(ProgramName::to_request),
                expected_revision: place.expected_revision,
            },
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let attached = client
            .attach_program(&self.device, self.end, &self.attach)
            .map_err(changing(&self.device))?;
        print(&attached, options)
    }
}

/// The new link is named; the revision is for those who want details.
fn print(attached: &ProgramAttached, options: Options) -> Result<Output, Error> {
    if options.json {
        return Output::json(attached, options);
    }
    let link = attached.link_id.map(|id| format!("link_id {id}"));
    let revision = options.details.then(|| format!("revision {}", attached.revision));
    let words: Vec<String> = link.into_iter().chain(revision).collect();
    Ok(Output::text(words.join(" ")))
}

impl Detach {
    pub fn parse(words: &mut Words<'_>) -> Result<Detach, UsageError> {
        let end = end(words)?;
        let program = match words.peek() {
            None | Some("dev") => None,
            Some(_) => Some(ProgramName::parse(words)?),
        };
        let mut place = Place::default();
        while let Some(word) = words.next() {
            if !place.read(word, words)? {
                return Err(stray(word));
            }
        }
        Ok(Detach {
            end,
            device: place.device.ok_or(UsageError::Missing("dev"))?,
            detach: ProgramDetach {
                program: program.as_ref().map(ProgramName::to_request),
                before: place.before,
                after: place.after,
                expected_revision: place.expected_revision,
            },
        })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        client
            .detach_program(&self.device, self.end, &self.detach)
            .map_err(changing(&self.device))?;
        Ok(Output::nothing())
    }
}

impl Place {
    /// Whether `word` is one of these; if so, its value has been read too.
    fn read(&mut self, word: &str, words: &mut Words<'_>) -> Result<bool, UsageError> {
        let value = words.peek().unwrap_or_default();
        match word {
            "dev" => once(&mut self.device, word, value, words.value()?.to_owned())?,
            "before" => once(&mut self.before, word, value, neighbour(words)?)?,
            "after" => once(&mut self.after, word, value, neighbour(words)?)?,
            "expected-revision" => {
                let revision = long(words.value()?, "expected-revision")?;
                once(&mut self.expected_revision, word, value, revision)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A program or `link [id] N`, as the API takes them; empty for the front or the end of the list.
fn neighbour(words: &mut Words<'_>) -> Result<String, UsageError> {
    match (words.peek(), words.peek_second()) {
        (None, _) | (Some("dev" | "before" | "after" | "replace" | "expected-revision"), _) => {
            Ok(String::new())
        }
        (Some("link"), Some(second))
            if second == "id" || second.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            words.next();
            if second == "id" {
                words.next();
            }
            Ok(format!("link:{}", id(words.value()?)?))
        }
        // By a link, then: the word is about the program itself.
        (Some("link"), _) => Ok(String::new()),
        (Some(_), _) => Ok(ProgramName::parse(words)?.to_request()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};
    use crate::net::Command;

    fn attach(line: &str) -> Attach {
        match parse(line) {
            Ok(Any::Net(Command::Attach(attach))) => attach,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn detach(line: &str) -> Detach {
        match parse(line) {
            Ok(Any::Net(Command::Detach(detach))) => detach,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_program_and_a_device_are_enough() {
        let plain = attach("net attach netkit_primary filter dev nk0");
        assert_eq!((plain.end, plain.device.as_str()), (End::Primary, "nk0"));
        let program = ProgramAttach {
            program: "filter".into(),
            ..ProgramAttach::default()
        };
        assert_eq!(plain.attach, program);
        let other = attach("ne a netkit_peer id 7 dev nk0 replace name old expected-revision 0x10 link");
        assert_eq!(other.end, End::Peer);
        assert_eq!(
            other.attach,
            ProgramAttach {
                program: "7".into(),
                link: true,
                replace: Some("old".into()),
                expected_revision: Some(16),
                ..ProgramAttach::default()
            }
        );
    }

    #[test]
    fn an_uplink_has_a_list_for_each_direction() {
        assert_eq!(attach("net attach tcx_ingress 7 dev wan").end, End::TcxIngress);
        assert_eq!(attach("net attach tcx_egress 7 dev wan").end, End::TcxEgress);
        assert_eq!(detach("net detach tcx_ingress dev wan").end, End::TcxIngress);
    }

    #[test]
    fn places_are_programs_links_or_the_ends_of_the_list() {
        let places = |rest: &str| {
            let attach = attach(&format!("net attach netkit_primary 7 dev nk0 {rest}")).attach;
            let detach = match rest.contains(" link") && !rest.contains("link 3") {
                true => None,
                false => Some(detach(&format!("net detach netkit_primary dev nk0 {rest}")).detach),
            };
            if let Some(detach) = detach {
                assert_eq!(
                    (&detach.before, &detach.after),
                    (&attach.before, &attach.after),
                    "{rest}"
                );
            }
            (attach.before, attach.after, attach.link)
        };
        let some = |text: &str| Some(String::from(text));
        assert_eq!(places("before count"), (some("count"), None, false));
        assert_eq!(places("after id 9"), (None, some("9"), false));
        assert_eq!(places("before link 3"), (some("link:3"), None, false));
        assert_eq!(places("before"), (some(""), None, false));
        assert_eq!(places("after expected-revision 4"), (None, some(""), false));
        assert_eq!(places("before after 9"), (some(""), some("9"), false));
        assert_eq!(places("before link"), (some(""), None, true));
        assert_eq!(places("after link expected-revision 4"), (None, some(""), true));
        assert_eq!(places("before link id 3 link"), (some("link:3"), None, true));
    }

    #[test]
    fn detach_takes_the_last_program_unless_told_which() {
        let last = detach("net detach netkit_peer dev nk0");
        assert_eq!((last.end, last.device.as_str()), (End::Peer, "nk0"));
        assert_eq!(last.detach, ProgramDetach::default());
        let named = detach("net d netkit_primary tag A04F5EEF06A7F555 dev nk0");
        assert_eq!(named.detach.program.as_deref(), Some("a04f5eef06a7f555"));
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "net attach xdp 7 dev nk0",
                "Error: argument \"xdp\" is wrong: the attach type must be netkit_primary, netkit_peer, \
                 tcx_ingress or tcx_egress",
            ),
            (
                "net attach netkit_primary",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "net attach netkit_primary 7",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "net attach netkit_primary 7 dev",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "net attach netkit_primary 7 nk0",
                "Garbage instead of arguments \"nk0 ...\". Try \"nkctl net help\".",
            ),
            (
                "net attach netkit_primary 7 dev nk0 before a before b",
                "Error: duplicate \"before\": \"b\" is the second value.",
            ),
            (
                "net attach netkit_primary 7 dev nk0 expected-revision -1",
                "Error: argument \"-1\" is wrong: Invalid \"expected-revision\" value",
            ),
            (
                "net attach netkit_primary 7 dev nk0 replace",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "net detach netkit_primary 7 dev nk0 replace 8",
                "Garbage instead of arguments \"replace ...\". Try \"nkctl net help\".",
            ),
            ("net detach", "Command line is not complete. Try option \"help\""),
            (
                "net bogus",
                "Command \"bogus\" is unknown, try \"nkctl net help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
        for line in ["net help", "net attach help", "net detach help"] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
    }

    #[test]
    fn a_new_link_is_named() {
        let attached = |link_id| ProgramAttached { revision: 4, link_id };
        let print = |link_id, details, json| {
            let options = Options {
                details,
                json,
                ..Options::default()
            };
            print(&attached(link_id), options).expect("printed").text
        };
        assert_eq!(print(None, false, false), "");
        assert_eq!(print(Some(3), false, false), "link_id 3\n");
        assert_eq!(print(Some(3), true, false), "link_id 3 revision 4\n");
        assert_eq!(print(None, true, false), "revision 4\n");
        assert_eq!(print(Some(3), false, true), "{\"revision\":4,\"link_id\":3}\n");
    }
}
