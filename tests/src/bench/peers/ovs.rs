//! Open vSwitch with DPDK, in a directory of its own: a bridge with two `dpdkvhostuserclient` ports and a flow each way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::share::Habit;
use super::super::{BACK_END_CPU, Error, Result};
use super::{Kind, Peer, Program, directory};
use crate::rig::Process;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Not what `update-alternatives` may have put into the path.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const PATIENCE: Duration = Duration::from_secs(20);

pub fn start(huge_pages: bool) -> Result<Peer> {
    let directory = directory()?;
    let at = directory.path();
    let sockets = ["a", "b"].map(|name| at.join(name));
    run(at, "ovsdb-tool", &["create", "conf.db", SCHEMA])?;
    let database = spawn(
        at,
        "ovsdb-server",
        &[
            "conf.db",
            "--remote=punix:db.sock",
            "--unixctl=db.ctl",
            "--log-file=db.log",
        ],
    )?;
    wait_for(&at.join("db.sock"), "ovsdb-server")?;
    configure(at, huge_pages)?;
    // Its main thread is left to the scheduler: on the core of its own polling thread it would not get to its work.
    let switch = spawn(
        at,
        SWITCH,
        &["unix:db.sock", "--unixctl=switch.ctl", "--log-file=switch.log"],
    )?;
    connect(at, &sockets)?;
    Ok(Peer {
        kind: Kind::Ovs,
        sockets,
        connects: true,
        forwarding: "pmd-",
        habit: Habit::Polls,
        program: Program::Processes(vec![switch, database], directory),
    })
}

fn configure(at: &Path, huge_pages: bool) -> Result<()> {
    let memory = if huge_pages {
        "--in-memory"
    } else {
        "--no-huge -m 1024"
    };
    let mask = format!("other_config:pmd-cpu-mask={:#x}", 1 << BACK_END_CPU);
    let extra = format!("other_config:dpdk-extra={memory} --no-pci --no-telemetry --file-prefix=ovs");
    let mut arguments = vec![
        "--db=unix:db.sock",
        "--no-wait",
        "set",
        "Open_vSwitch",
        ".",
        &mask,
        &extra,
    ];
    arguments.extend([
        "other_config:dpdk-init=true",
        "other_config:userspace-tso-enable=true",
    ]);
    if huge_pages {
        arguments.push("other_config:dpdk-socket-mem=512");
    }
    run(at, "ovs-vsctl", &["--db=unix:db.sock", "--no-wait", "init"])?;
    run(at, "ovs-vsctl", &arguments)
}

fn connect(at: &Path, sockets: &[std::path::PathBuf; 2]) -> Result<()> {
    let control = ["--db=unix:db.sock", "--timeout=20"];
    let bridge = [
        "add-br",
        "br0",
        "--",
        "set",
        "bridge",
        "br0",
        "datapath_type=netdev",
    ];
    run(at, "ovs-vsctl", &[&control[..], &bridge].concat())?;
    for (index, socket) in sockets.iter().enumerate() {
        let port = format!("p{}", index + 1);
        let number = format!("ofport_request={}", index + 1);
        let path = format!("options:vhost-server-path={}", socket.display());
        let add = ["add-port", "br0", &port, "--", "set", "Interface", &port];
        let options = ["type=dpdkvhostuserclient", &number, &path];
        run(at, "ovs-vsctl", &[&control[..], &add, &options].concat())?;
    }
    run(at, "ovs-ofctl", &["del-flows", "unix:br0.mgmt"])?;
    for flow in ["in_port=1,actions=output:2", "in_port=2,actions=output:1"] {
        run(at, "ovs-ofctl", &["add-flow", "unix:br0.mgmt", flow])?;
    }
    Ok(())
}

fn command(at: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(at).args(arguments);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, at);
    }
    command
}

fn run(at: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let output = command(at, program, arguments)
        .output()
        .map_err(|source| Error::Start {
            program: program.to_owned(),
            source,
        })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Failed {
            program: program.to_owned(),
            said: Error::tail(&String::from_utf8_lossy(&output.stderr)),
        }),
    }
}

fn spawn(at: &Path, program: &str, arguments: &[&str]) -> Result<Process> {
    let mut command = command(at, program, arguments);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    Process::spawn(command).map_err(|source| Error::Start {
        program: program.to_owned(),
        source,
    })
}

fn wait_for(path: &Path, program: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(Error::NotReady {
                program: program.to_owned(),
                seconds: PATIENCE.as_secs(),
                said: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
