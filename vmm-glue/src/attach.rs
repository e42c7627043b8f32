//! `nkctl attach` and `nkctl detach`: what stands behind a device.

use netkit_api::{AttachmentSpec, SocketMode, TapSpec, VhostUserSpec};
use vmm_glue::Client;

use crate::command::Output;
use crate::error::{Error, changing};
use crate::help;
use crate::link::device_name;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, number, once, short};

/// `attach DEV ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Attach {
    pub device: String,
    pub attachment: AttachmentSpec,
}

/// `detach DEV`
#[derive(Debug, PartialEq, Eq)]
pub struct Detach {
    pub device: String,
}

impl Attach {
    pub fn parse(words: &mut Words<'_>) -> Result<Attach, UsageError> {
        let device = device_name(words, help::ATTACH)?;
        let kind = words.value()?;
        let attachment = match kind {
            _ if abbreviates(kind, "vhost-user") => AttachmentSpec::VhostUser(vhost_user(words)?),
            _ if abbreviates(kind, "tap") => AttachmentSpec::Tap(tap(words)?),
            _ if abbreviates(kind, "help") => return Err(UsageError::Information(help::ATTACH)),
            _ => return Err(UsageError::invalid(kind, "must be vhost-user or tap")),
        };
        Ok(Attach { device, attachment })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        let attachment = absolute(&self.attachment)?;
        match client.attach(&self.device, &attachment) {
            Ok(()) => Ok(Output::nothing()),
            // A tap can have no device of its own, for want of the kernel's driver; only ours is asked for here.
            Err(error) if error.is_no_such_device() => {
                client.device(&self.device).map_err(changing(&self.device))?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Detach {
    pub fn parse(words: &mut Words<'_>) -> Result<Detach, UsageError> {
        let device = device_name(words, help::ATTACH)?;
        words.end("detach help")?;
        Ok(Detach { device })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        client.detach(&self.device).map_err(changing(&self.device))?;
        Ok(Output::nothing())
    }
}

fn vhost_user(words: &mut Words<'_>) -> Result<VhostUserSpec, UsageError> {
    let (mut path, mut mode, mut queues) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "path" => {
                let value = words.value()?;
                once(&mut path, word, value, value.to_owned())?;
            }
            "mode" => {
                let value = words.value()?;
                once(&mut mode, word, value, socket_mode(value)?)?;
            }
            "queues" => {
                let value = words.value()?;
                once(&mut queues, word, value, short(value, "queues")?)?;
            }
            _ => return Err(stray(word)),
        }
    }
    Ok(VhostUserSpec {
        path: path.ok_or(UsageError::Missing("path"))?,
        mode: mode.unwrap_or_default(),
        queues: queues.unwrap_or(1),
    })
}

fn tap(words: &mut Words<'_>) -> Result<TapSpec, UsageError> {
    let mut tap = TapSpec::default();
    while let Some(word) = words.next() {
        match word {
            "ifname" => {
                let value = words.value()?;
                once(&mut tap.ifname, word, value, value.to_owned())?;
            }
            "queues" => {
                let value = words.value()?;
                once(&mut tap.queues, word, value, short(value, "queues")?)?;
            }
            "fd" => {
                let value = words.value()?;
                // `number` keeps to what an i32 can hold.
                once(&mut tap.fd, word, value, number(value, "fd")? as i32)?;
            }
            _ => return Err(stray(word)),
        }
    }
    Ok(tap)
}

fn socket_mode(word: &str) -> Result<SocketMode, UsageError> {
    match word {
        "server" => Ok(SocketMode::Server),
        "client" => Ok(SocketMode::Client),
        _ => Err(UsageError::invalid(
            word,
            "\"mode\" must be server (netkitd listens) or client (netkitd connects)",
        )),
    }
}

fn stray(word: &str) -> UsageError {
    match abbreviates(word, "help") {
        true => UsageError::Information(help::ATTACH),
        false => UsageError::Garbage {
            word: word.into(),
            help: "attach help",
        },
    }
}

/// The daemon's working directory is not the user's.
fn absolute(attachment: &AttachmentSpec) -> Result<AttachmentSpec, Error> {
    let mut attachment = attachment.clone();
    if let AttachmentSpec::VhostUser(spec) = &mut attachment {
        let path = std::path::absolute(&spec.path).map_err(|source| Error::RelativePath {
            path: spec.path.clone(),
            source,
        })?;
        spec.path = path
            .into_os_string()
            .into_string()
            .map_err(UsageError::NotUnicode)?;
    }
    Ok(attachment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn vhost_user(path: &str, mode: SocketMode, queues: u16) -> AttachmentSpec {
        AttachmentSpec::VhostUser(VhostUserSpec {
            path: path.into(),
            mode,
            queues,
        })
    }

    fn attachment(line: &str) -> AttachmentSpec {
        match parse(line) {
            Ok(Command::Attach(attach)) if attach.device == "nk1" => attach.attachment,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn vhost_user_listens_with_one_queue_pair_by_default() {
        assert_eq!(
            attachment("attach nk1 vhost-user path /run/a.sock"),
            vhost_user("/run/a.sock", SocketMode::Server, 1)
        );
        assert_eq!(
            attachment("attach dev nk1 vhost-user queues 4 mode client path /run/a.sock"),
            vhost_user("/run/a.sock", SocketMode::Client, 4)
        );
        assert_eq!(
            attachment("att nk1 vhost path a mode server"),
            vhost_user("a", SocketMode::Server, 1)
        );
    }

    #[test]
    fn tap_needs_nothing() {
        assert_eq!(
            attachment("attach nk1 tap"),
            AttachmentSpec::Tap(TapSpec::default())
        );
        assert_eq!(
            attachment("attach nk1 tap ifname tap7 queues 2 fd 5"),
            AttachmentSpec::Tap(TapSpec {
                ifname: Some("tap7".into()),
                queues: Some(2),
                fd: Some(5),
            })
        );
    }

    #[test]
    fn detach_takes_one_device() {
        let detach = |line| match parse(line) {
            Ok(Command::Detach(detach)) => detach.device,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(detach("detach nk1"), "nk1");
        assert_eq!(detach("det dev nk1"), "nk1");
    }

    #[test]
    fn refusals() {
        let incomplete = "Command line is not complete. Try option \"help\"";
        for line in [
            "attach nk1",
            "attach dev",
            "attach nk1 vhost-user path",
            "attach nk1 tap ifname",
        ] {
            assert_eq!(refusal(line), (incomplete.into(), 255), "{line}");
        }
        let cases = [
            ("attach", "Not enough information: \"dev\" argument is required."),
            ("detach", "Not enough information: \"dev\" argument is required."),
            (
                "attach nk1 vhost-user",
                "Not enough information: \"path\" argument is required.",
            ),
            (
                "attach nk1 uplink",
                "Error: argument \"uplink\" is wrong: must be vhost-user or tap",
            ),
            (
                "attach nk1 vhost-user path a mode both",
                "Error: argument \"both\" is wrong: \"mode\" must be server (netkitd listens) or client (netkitd connects)",
            ),
            (
                "attach nk1 vhost-user path a queues 65536",
                "Error: argument \"65536\" is wrong: Invalid \"queues\" value",
            ),
            (
                "attach nk1 vhost-user path a path b",
                "Error: duplicate \"path\": \"b\" is the second value.",
            ),
            (
                "attach nk1 vhost-user path a foo",
                "Garbage instead of arguments \"foo ...\". Try \"nkctl attach help\".",
            ),
            (
                "detach nk1 nk2",
                "Garbage instead of arguments \"nk2 ...\". Try \"nkctl detach help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn a_relative_socket_is_the_users() {
        let spec =
            absolute(&vhost_user("a.sock", SocketMode::Server, 1)).expect("there is a working directory");
        let here = std::env::current_dir().expect("there is a working directory");
        assert_eq!(
            spec,
            vhost_user(&here.join("a.sock").to_string_lossy(), SocketMode::Server, 1)
        );
    }
}
