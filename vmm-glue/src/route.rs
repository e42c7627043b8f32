//! `nkctl route`: the routes that programs of a domain look up, in the grammar of `ip route`.

use std::net::IpAddr;

use netkit_api::{Origin, Route};
use serde_json::{Value, json};
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, number, once};

/// What follows `route`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show { domain: String },
    Add { domain: String, route: Route },
    Delete { domain: String, route: Wanted },
}

/// What of a route was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    destination: Option<String>,
    via: Option<String>,
    device: Option<String>,
    source: Option<String>,
    mtu: Option<u32>,
    metric: Option<u32>,
    domain: Option<String>,
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        match command {
            _ if is("list") || is("lst") || is("show") => {
                let domain = only_domain(words, help::ROUTE, "route help")?;
                Ok(Command::Show { domain })
            }
            _ if is("add") || is("replace") => Wanted::parse(words)?.added(),
            _ if is("delete") => {
                let mut route = Wanted::parse(words)?;
                route.destination()?;
                let domain = route.domain.take().ok_or(UsageError::Missing("domain"))?;
                Ok(Command::Delete { domain, route })
            }
            _ if is("help") => Err(UsageError::Information(help::ROUTE)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "route",
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show { domain } => {
                let routes = client.routes(domain)?;
                match options.json {
                    true => Output::json(&routes.iter().map(row).collect::<Vec<_>>(), options),
                    false => Ok(Output::text(routes.iter().map(text).collect::<String>())),
                }
            }
            Command::Add { domain, route } => {
                client.add_route(domain, route)?;
                Ok(Output::nothing())
            }
            Command::Delete { domain, route } => {
                let mut routes = client.routes(domain)?.into_iter();
                let found = routes.find(|candidate| route.selects(candidate));
                let found = found.ok_or_else(|| Error::NoSuch("route"))?;
                client.delete_route(domain, &found)?;
                Ok(Output::nothing())
            }
        }
    }
}

impl Wanted {
    fn parse(words: &mut Words<'_>) -> Result<Wanted, UsageError> {
        let mut wanted = Wanted::default();
        while let Some(word) = words.next() {
            let slot = match word {
                "via" | "src" => {
                    let value = words.value()?;
                    let slot = if word == "via" {
                        &mut wanted.via
                    } else {
                        &mut wanted.source
                    };
                    once(slot, word, value, address(value)?.to_string())?;
                    continue;
                }
                "mtu" => {
                    let value = words.value()?;
                    once(&mut wanted.mtu, word, value, number(value, "mtu")?)?;
                    continue;
                }
                "metric" => {
                    let value = words.value()?;
                    once(&mut wanted.metric, word, value, number(value, "metric")?)?;
                    continue;
                }
                "dev" => &mut wanted.device,
                "domain" | "netns" => &mut wanted.domain,
                "help" => return Err(UsageError::Information(help::ROUTE)),
                _ => {
                    let value = if word == "to" { words.value()? } else { word };
                    once(&mut wanted.destination, "to", value, destination(value)?)?;
                    continue;
                }
            };
            let value = words.value()?;
            once(slot, word, value, value.to_owned())?;
        }
        Ok(wanted)
    }

    fn destination(&self) -> Result<&String, UsageError> {
        self.destination.as_ref().ok_or(UsageError::Missing("to"))
    }

    fn added(self) -> Result<Command, UsageError> {
        let destination = self.destination()?.clone();
        Ok(Command::Add {
            domain: self.domain.ok_or(UsageError::Missing("domain"))?,
            route: Route {
                destination,
                via: self.via,
                device: self.device.ok_or(UsageError::Missing("dev"))?,
                source: self.source,
                mtu: self.mtu,
                metric: self.metric,
                origin: None,
            },
        })
    }

    /// Whether a route is the one that was named; what was not said may be anything.
    fn selects(&self, route: &Route) -> bool {
        let same = |said: &Option<String>, value: Option<&String>| said.is_none() || said.as_ref() == value;
        same(&self.destination, Some(&route.destination))
            && same(&self.via, route.via.as_ref())
            && same(&self.device, Some(&route.device))
            && same(&self.source, route.source.as_ref())
            && (self.mtu.is_none() || self.mtu == route.mtu)
            && self
                .metric
                .is_none_or(|metric| metric == route.metric.unwrap_or(0))
    }
}

/// `domain D`, and nothing else.
pub fn only_domain(
    words: &mut Words<'_>,
    text: &'static str,
    help: &'static str,
) -> Result<String, UsageError> {
    let domain = match words.next() {
        Some("domain" | "netns") => words.value()?.to_owned(),
        Some("help") => return Err(UsageError::Information(text)),
        Some(word) => {
            return Err(UsageError::Garbage {
                word: word.into(),
                help,
            });
        }
        None => return Err(UsageError::Missing("domain")),
    };
    words.end(help)?;
    Ok(domain)
}

/// An IPv4 or IPv6 address.
pub fn address(word: &str) -> Result<IpAddr, UsageError> {
    word.parse()
        .map_err(|_| UsageError::invalid(word, "an IP address is expected"))
}

/// `default`, an address, or a prefix.
fn destination(word: &str) -> Result<String, UsageError> {
    match word {
        "default" => Ok(word.into()),
        _ => prefix(word),
    }
}

/// An address, or a prefix; what is behind the prefix must be zero, as it must be for the kernel.
pub fn prefix(word: &str) -> Result<String, UsageError> {
    let wrong = |why| UsageError::invalid(word, why);
    let (text, length) = word.split_once('/').unwrap_or((word, ""));
    let address: IpAddr = text
        .parse()
        .map_err(|_| wrong("an IP address or a prefix such as 10.0.0.0/8 is expected"))?;
    let (bits, value) = match address {
        IpAddr::V4(address) => (32, u128::from(address.to_bits()) << 96),
        IpAddr::V6(address) => (128, address.to_bits()),
    };
    let length = match length {
        "" if text.len() == word.len() => bits,
        _ => length
            .parse()
            .ok()
            .filter(|length| *length <= bits && !word.contains('+'))
            .ok_or_else(|| wrong("the length of the prefix is too large, or no number"))?,
    };
    match value.checked_shl(length).unwrap_or(0) {
        0 => Ok(format!("{address}/{length}")),
        _ => Err(wrong("there are bits behind the prefix")),
    }
}

fn text(route: &Route) -> String {
    let mut text = route.destination.clone();
    if let Some(via) = &route.via {
        text += &format!(" via {via}");
    }
    text += &format!(" dev {}", route.device);
    if route.origin == Some(Origin::Host) {
        text += " proto kernel";
    }
    if let Some(source) = &route.source {
        text += &format!(" src {source}");
    }
    if let Some(metric) = route.metric {
        text += &format!(" metric {metric}");
    }
    if let Some(mtu) = route.mtu {
        text += &format!(" mtu {mtu}");
    }
    text + "\n"
}

/// Names and order are those of `ip -j route show`.
fn row(route: &Route) -> Value {
    let mut row = serde_json::Map::new();
    row.insert("dst".into(), json!(route.destination));
    if let Some(via) = &route.via {
        row.insert("gateway".into(), json!(via));
    }
    row.insert("dev".into(), json!(route.device));
    if route.origin == Some(Origin::Host) {
        row.insert("protocol".into(), json!("kernel"));
    }
    if let Some(source) = &route.source {
        row.insert("prefsrc".into(), json!(source));
    }
    if let Some(metric) = route.metric {
        row.insert("metric".into(), json!(metric));
    }
    row.insert("flags".into(), json!([]));
    if let Some(mtu) = route.mtu {
        row.insert("metrics".into(), json!([{"mtu": mtu}]));
    }
    row.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Any::Route(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn full() -> Route {
        Route {
            destination: "10.0.0.0/8".into(),
            via: Some("10.1.1.1".into()),
            device: "nk0".into(),
            source: Some("10.1.1.2".into()),
            mtu: Some(1400),
            metric: None,
            origin: Some(Origin::Api),
        }
    }

    #[test]
    fn a_route_is_written_as_for_ip() {
        let line = "route add 10.0.0.0/8 via 10.1.1.1 dev nk0 src 10.1.1.2 mtu 1400 domain red";
        assert_eq!(
            command(line),
            Command::Add {
                domain: "red".into(),
                route: Route {
                    origin: None,
                    ..full()
                },
            }
        );
        assert_eq!(
            command("r replace to 2001:DB8::/32 dev nk0 metric 7 netns red"),
            Command::Add {
                domain: "red".into(),
                route: Route {
                    destination: "2001:db8::/32".into(),
                    via: None,
                    source: None,
                    mtu: None,
                    metric: Some(7),
                    origin: None,
                    ..full()
                },
            }
        );
        for line in ["route show domain red", "r list netns red", "route l domain red"] {
            assert_eq!(command(line), Command::Show { domain: "red".into() }, "{line}");
        }
    }

    #[test]
    fn destinations_are_normalized() {
        let read = |word| destination(word).map_err(|error| error.to_string());
        assert_eq!(read("default").as_deref(), Ok("default"));
        assert_eq!(read("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(read("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        assert_eq!(read("2001:db8:0::1").as_deref(), Ok("2001:db8::1/128"));
        assert_eq!(read("::/0").as_deref(), Ok("::/0"));
        for wrong in [
            "",
            "10/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/+8",
            "nk0",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn deleting_names_as_much_as_it_takes() {
        let wanted = |line| match command(line) {
            Command::Delete { route, domain } if domain == "red" => route,
            other => panic!("{line}: {other:?}"),
        };
        assert!(wanted("route del 10.0.0.0/8 domain red").selects(&full()));
        assert!(wanted("route del 10.0.0.0/8 via 10.1.1.1 dev nk0 domain red").selects(&full()));
        for other in [
            "route del 10.0.0.0/9 domain red",
            "route del 10.0.0.0/8 via 10.1.1.9 domain red",
            "route del 10.0.0.0/8 dev nk1 domain red",
            "route del 10.0.0.0/8 mtu 1500 domain red",
            "route del 10.0.0.0/8 metric 5 domain red",
        ] {
            assert!(!wanted(other).selects(&full()), "{other}");
        }
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "route show",
                "Not enough information: \"domain\" argument is required.",
            ),
            (
                "route add dev nk0 domain red",
                "Not enough information: \"to\" argument is required.",
            ),
            (
                "route add default domain red",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "route add default dev nk0",
                "Not enough information: \"domain\" argument is required.",
            ),
            (
                "route add default via x",
                "Error: argument \"x\" is wrong: an IP address is expected",
            ),
            (
                "route add default via",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "route add default 10.0.0.0/8",
                "Error: duplicate \"to\": \"10.0.0.0/8\" is the second value.",
            ),
            (
                "route get 10.0.0.1",
                "Command \"get\" is unknown, try \"nkctl route help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
        for line in ["route help", "route add help", "route show help"] {
            assert!(matches!(parse(line), Err(UsageError::Information(_))), "{line}");
        }
    }

    #[test]
    fn a_route_of_the_host_s_is_printed_with_its_protocol_and_metric() {
        let route = Route {
            origin: Some(Origin::Host),
            metric: Some(1024),
            mtu: None,
            ..full()
        };
        assert_eq!(
            text(&route),
            "10.0.0.0/8 via 10.1.1.1 dev nk0 proto kernel src 10.1.1.2 metric 1024\n"
        );
        assert_eq!(
            row(&route).to_string(),
            "{\"dst\":\"10.0.0.0/8\",\"gateway\":\"10.1.1.1\",\"dev\":\"nk0\",\"protocol\":\"kernel\",\
             \"prefsrc\":\"10.1.1.2\",\"metric\":1024,\"flags\":[]}"
        );
    }

    #[test]
    fn routes_are_printed_as_ip_prints_them() {
        assert_eq!(
            text(&full()),
            "10.0.0.0/8 via 10.1.1.1 dev nk0 src 10.1.1.2 mtu 1400\n"
        );
        assert_eq!(
            row(&full()).to_string(),
            "{\"dst\":\"10.0.0.0/8\",\"gateway\":\"10.1.1.1\",\"dev\":\"nk0\",\"prefsrc\":\"10.1.1.2\",\"flags\":[],\
             \"metrics\":[{\"mtu\":1400}]}"
        );
    }
}
