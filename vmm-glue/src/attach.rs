//! `nkctl attach` and `nkctl detach`: what stands behind a device.

use netkit_api::{AttachmentSpec, Share, SocketMode, TapSpec, UplinkSpec, VhostUserSpec};
use vmm_glue::Client;

use crate::command::Output;
use crate::error::{Error, changing, changing_found};
use crate::help;
use crate::link::{device_name, link_layer_address};
use crate::route::prefix;
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
            _ if abbreviates(kind, "uplink") => AttachmentSpec::Uplink(uplink(words)?),
            _ if abbreviates(kind, "help") => return Err(UsageError::Information(help::ATTACH)),
            _ => return Err(UsageError::invalid(kind, "must be vhost-user, tap or uplink")),
        };
        Ok(Attach { device, attachment })
    }

    pub fn run(&self, client: &Client) -> Result<Output, Error> {
        let attachment = absolute(&self.attachment)?;
        // A tap or an uplink can have no device of its own; only ours is looked for here.
        let look = || client.device(&self.device);
        client
            .attach(&self.device, &attachment)
            .map_err(changing_found(&self.device, look))?;
        Ok(Output::nothing())
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

/// Addresses say by what frames are shared; without any, the word alone can.
fn uplink(words: &mut Words<'_>) -> Result<UplinkSpec, UsageError> {
    let uplink = words.value()?.to_owned();
    let (mut share, mut macs, mut prefixes) = (None, Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word {
            "share" => {
                let value = words.value()?;
                once(&mut share, word, value, shared_by(value)?)?;
            }
            "mac" => read_list(&mut macs, words, link_layer_address)?,
            "ip" => read_list(&mut prefixes, words, prefix)?,
            _ => return Err(stray(word)),
        }
    }
    let (by_mac, by_ip) = (!macs.is_empty(), !prefixes.is_empty());
    let (share, addresses) = match share {
        None if !by_mac && !by_ip => (Share::None, macs),
        Some(Share::Mac) | None if !by_ip => (Share::Mac, macs),
        Some(Share::Ip) | None if !by_mac && by_ip => (Share::Ip, prefixes),
        Some(Share::Ip) if !by_mac => return Err(UsageError::Missing("ip")),
        _ => {
            let why = "an uplink is shared by mac or by ip, not by both; leave one of them out";
            return Err(UsageError::invalid(if by_ip { "ip" } else { "mac" }, why));
        }
    };
    Ok(UplinkSpec {
        uplink,
        share,
        addresses,
    })
}

/// At least one, up to the next option.
fn read_list(
    list: &mut Vec<String>,
    words: &mut Words<'_>,
    read: fn(&str) -> Result<String, UsageError>,
) -> Result<(), UsageError> {
    list.push(read(words.value()?)?);
    while let Some(word) = words.peek().filter(|word| !["share", "mac", "ip"].contains(word)) {
        list.push(read(word)?);
        words.next();
    }
    Ok(())
}

fn shared_by(word: &str) -> Result<Share, UsageError> {
    match word {
        "mac" => Ok(Share::Mac),
        "ip" => Ok(Share::Ip),
        _ => Err(UsageError::invalid(word, "\"share\" must be mac or ip")),
    }
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
    fn an_uplink_is_a_wire_unless_addresses_or_share_say_otherwise() {
        let uplink = |line: &str| match attachment(line) {
            AttachmentSpec::Uplink(spec) if spec.uplink == "wan" => (spec.share, spec.addresses),
            other => panic!("{line}: {other:?}"),
        };
        let strings = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect::<Vec<_>>();
        assert_eq!(uplink("attach nk1 uplink wan"), (Share::None, vec![]));
        assert_eq!(uplink("att dev nk1 up wan share mac"), (Share::Mac, vec![]));
        let macs = strings(&["02:00:00:00:00:0a", "02:00:00:00:00:0b"]);
        for line in [
            "attach nk1 uplink wan mac 02:00:00:00:00:0a 02:00:00:00:00:0B",
            "attach nk1 uplink wan mac 2:0:0:0:0:a mac 2:0:0:0:0:b",
            "attach nk1 uplink wan mac 02:00:00:00:00:0a 02:00:00:00:00:0b share mac",
        ] {
            assert_eq!(uplink(line), (Share::Mac, macs.clone()), "{line}");
        }
        let prefixes = strings(&["10.1.2.3/32", "2001:db8::/64"]);
        for line in [
            "attach nk1 uplink wan ip 10.1.2.3 2001:db8::/64",
            "attach nk1 uplink wan share ip ip 10.1.2.3 ip 2001:DB8:0::/64",
        ] {
            assert_eq!(uplink(line), (Share::Ip, prefixes.clone()), "{line}");
        }
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
            "attach nk1 uplink",
            "attach nk1 uplink wan mac",
            "attach nk1 uplink wan share",
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
                "attach nk1 veth",
                "Error: argument \"veth\" is wrong: must be vhost-user, tap or uplink",
            ),
            (
                "attach nk1 uplink wan share vlan",
                "Error: argument \"vlan\" is wrong: \"share\" must be mac or ip",
            ),
            (
                "attach nk1 uplink wan share mac share ip",
                "Error: duplicate \"share\": \"ip\" is the second value.",
            ),
            (
                "attach nk1 uplink wan mac 02:00:00:00:00:01 ip 10.0.0.1",
                "Error: argument \"ip\" is wrong: an uplink is shared by mac or by ip, not by both; leave one of \
                 them out",
            ),
            (
                "attach nk1 uplink wan share mac ip 10.0.0.1",
                "Error: argument \"ip\" is wrong: an uplink is shared by mac or by ip, not by both; leave one of \
                 them out",
            ),
            (
                "attach nk1 uplink wan share ip mac 02:00:00:00:00:01",
                "Error: argument \"mac\" is wrong: an uplink is shared by mac or by ip, not by both; leave one of \
                 them out",
            ),
            (
                "attach nk1 uplink wan share ip",
                "Not enough information: \"ip\" argument is required.",
            ),
            ("attach nk1 uplink wan mac x", "\"x\" is invalid lladdr."),
            (
                "attach nk1 uplink wan ip 10.0.0.1/8",
                "Error: argument \"10.0.0.1/8\" is wrong: there are bits behind the prefix",
            ),
            (
                "attach nk1 uplink wan up",
                "Garbage instead of arguments \"up ...\". Try \"nkctl attach help\".",
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
