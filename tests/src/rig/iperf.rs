//! Throughput between two guests, measured by iperf3.

use super::{Error, Result, Shell};
use serde_json::Value;
use std::time::Duration;

/// One measurement to make.
#[derive(Debug, Clone)]
pub struct Iperf {
    udp: bool,
    reverse: bool,
    seconds: u32,
    parallel: u32,
    options: String,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IperfResult {
    /// What the receiver got.
    pub bits_per_second: f64,
    /// TCP segments that the sender had to send again.
    pub retransmits: u64,
    /// UDP datagrams sent.
    pub packets: u64,
    /// UDP datagrams lost.
    pub lost: u64,
}

impl Iperf {
    /// TCP at full speed for three seconds.
    pub fn tcp() -> Iperf {
        Iperf {
            udp: false,
            reverse: false,
            seconds: 3,
            parallel: 1,
            options: String::new(),
        }
    }

    /// UDP at a bit rate, such as `50M` (0 is full speed), for three seconds.
    pub fn udp(bitrate: &str) -> Iperf {
        Iperf {
            udp: true,
            options: format!("-u -b {bitrate}"),
            ..Iperf::tcp()
        }
    }

    /// The server sends.
    pub fn reverse(mut self) -> Iperf {
        self.reverse = true;
        self
    }

    /// How long to send.
    pub fn seconds(mut self, seconds: u32) -> Iperf {
        self.seconds = seconds;
        self
    }

    /// The number of streams.
    pub fn parallel(mut self, streams: u32) -> Iperf {
        self.parallel = streams;
        self
    }

    /// Further options of the client, such as `-l 1400` or `-M 536`.
    pub fn options(mut self, options: &str) -> Iperf {
        self.options += &format!(" {options}");
        self
    }

    /// Measures between a client and a server that is reached at `address`.
    pub fn run(&self, client: &impl Shell, server: &impl Shell, address: &str) -> Result<IperfResult> {
        // The server serves one test and ends; it must listen before the client calls.
        server.check("iperf3 -s -1 -D && until netstat -ltn | grep -q ':5201 '; do sleep 0.1; done")?;
        let (seconds, streams, options) = (self.seconds, self.parallel, &self.options);
        let reverse = if self.reverse { "-R" } else { "" };
        let command = format!("iperf3 -J -c {address} -t {seconds} -P {streams} {reverse} {options}");
        let limit = Duration::from_secs(60) + Duration::from_secs(1) * seconds;
        let output = client.run_within(&command, limit)?;
        self.parse(&output.stdout)
            .map_err(|reason| Error::Unintelligible {
                guest: client.name().into(),
                command,
                reason,
                output: output.stdout,
            })
    }

    fn parse(&self, text: &str) -> std::result::Result<IperfResult, String> {
        let report: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(error) = report["error"].as_str() {
            return Err(error.into());
        }
        let end = &report["end"];
        // UDP reports carry one summary (of the receiver), TCP reports one of either side.
        let received = if self.udp {
            &end["sum"]
        } else {
            &end["sum_received"]
        };
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        Ok(IperfResult {
            bits_per_second: received["bits_per_second"]
                .as_f64()
                .ok_or("it has no summary of the receiver")?,
            retransmits: count(&end["sum_sent"]["retransmits"]),
            packets: if self.udp { count(&received["packets"]) } else { 0 },
            lost: if self.udp {
                count(&received["lost_packets"])
            } else {
                0
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_report_is_read() {
        let text = r#"{"end": {"sum_sent": {"retransmits": 7}, "sum_received": {"bits_per_second": 2.5e9}}}"#;
        let result = Iperf::tcp().parse(text).unwrap();
        assert_eq!((result.bits_per_second, result.retransmits), (2.5e9, 7));
    }

    #[test]
    fn an_error_of_iperf_is_told() {
        assert_eq!(
            Iperf::tcp().parse(r#"{"error": "no route"}"#),
            Err("no route".into())
        );
    }
}
