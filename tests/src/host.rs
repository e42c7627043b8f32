//! A host in a guest: netkitd and nkctl run in an outer guest, and so do the guests whose cards they serve.

use std::thread;
use std::time::{Duration, Instant};

use crate::netkitd::program;
use crate::rig::{Guest, GuestConfig, GuestFile, Iperf, Nested, Result, Shell, outer, ping};

/// An outer guest with a daemon in it.
#[derive(Debug)]
pub struct Host {
    guest: Guest,
}

const DIRECTORY: &str = "/run/netkitd";

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

impl Host {
    /// Boots the outer guest with `files` added, starts netkitd in it and makes the pair `nka`, `nkb` with a vhost-user
    /// socket at each end.
    pub fn start(files: impl IntoIterator<Item = GuestFile>) -> Result<Host> {
        let host = Host::boot(outer::config("host")?.files(files))?;
        host.make_pair()?;
        Ok(host)
    }

    /// Boots an outer guest, and starts netkitd in it.
    pub fn boot(mut config: GuestConfig) -> Result<Host> {
        let begun = Instant::now();
        for name in ["netkitd", "nkctl"] {
            config = config.files(outer::files_of_binary_as(
                program(name),
                &format!("/usr/bin/{name}"),
            )?);
        }
        let host = Host {
            guest: outer::start(config)?,
        };
        println!("the outer guest booted in {:.0?}", begun.elapsed());
        host.start_daemon()?;
        Ok(host)
    }

    /// The outer guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Runs nkctl with these words, which must succeed, and gives what it printed.
    pub fn nkctl(&self, words: &str) -> Result<String> {
        self.guest.check(&format!("nkctl {words}"))
    }

    /// What the daemon has logged.
    pub fn log(&self) -> Result<String> {
        self.guest.check(&format!("cat {DIRECTORY}/log"))
    }

    /// Starts the daemon, and waits until its API answers.
    pub fn start_daemon(&self) -> Result<()> {
        self.guest.spawn(&format!(
            "mkdir -p {DIRECTORY}\n\
             exec netkitd --api {DIRECTORY}/api.sock --state-dir {DIRECTORY}/state >>{DIRECTORY}/log 2>&1"
        ))?;
        self.guest
            .check("until nkctl link show >/dev/null 2>&1; do sleep 0.1; done")
            .map(drop)
    }

    /// Kills the daemon with SIGKILL, and waits until it is gone.
    pub fn kill_daemon(&self) -> Result<()> {
        self.guest
            .check("killall -KILL netkitd && while pidof netkitd >/dev/null; do sleep 0.1; done")
            .map(drop)
    }

    fn make_pair(&self) -> Result<()> {
        self.nkctl("link add nka type netkit mode l2 peer name nkb")?;
        for device in ["nka", "nkb"] {
            self.nkctl(&format!("link set {device} up"))?;
            self.nkctl(&format!(
                "attach {device} vhost-user path {DIRECTORY}/{device}.sock"
            ))?;
        }
        Ok(())
    }

    /// Asserts that the guests on `nka` and `nkb` talk, through the daemon, and again after its death.
    pub fn assert_talk(&self, a: &Nested, b: &Nested) -> Result<()> {
        a.set_up("eth0", &[&format!("{A}/24")])?;
        b.set_up("eth0", &[&format!("{B}/24")])?;
        self.assert_pings(a, b)?;
        let rate = Iperf::tcp().seconds(2).run(a, b, B)?.bits_per_second;
        println!("iperf3 between the nested guests: {:.0} Mbit/s", rate / 1e6);
        assert!(rate > 1e6, "{rate} bit/s\n{}", self.log()?);

        self.kill_daemon()?;
        assert!(!answers(a)?, "a ping is answered without a daemon");
        self.start_daemon()?;
        let restarted = Instant::now();
        while !answers(a)? {
            assert!(
                restarted.elapsed() < Duration::from_secs(20),
                "no ping after a restart\n{}\n{}\n{}",
                self.log()?,
                a.messages()?,
                b.messages()?
            );
            thread::sleep(Duration::from_millis(100));
        }
        println!(
            "a ping was answered {:.1?} after the restart",
            restarted.elapsed()
        );
        self.assert_pings(a, b)
    }

    fn assert_pings(&self, a: &Nested, b: &Nested) -> Result<()> {
        for (from, to) in [(a, B), (b, A)] {
            let result = ping(from, to, 5)?;
            assert_eq!(
                result.received,
                result.sent,
                "{} -> {to}\n{}",
                from.name(),
                self.log()?
            );
        }
        Ok(())
    }
}

fn answers(a: &Nested) -> Result<bool> {
    Ok(a.run(&format!("ping -q -c 1 -W 1 {B}"))?.status == 0)
}
