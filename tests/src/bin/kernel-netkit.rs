//! Runs scenarios on the netkit of the kernel that it runs under, as root of a machine of its own: `kernel-netkit FILE`.
//!
//! For each scenario it prints a line of JSON: the name, and what each step observed.

use std::error::Error;
use std::fs;
use std::io::{self, Write};

use netkit_tests::kernel::Kernel;
use netkit_tests::kernel::scenario::{Interpreter, Work};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: kernel-netkit FILE")?;
    let work: Work = serde_json::from_slice(&fs::read(path)?)?;
    let mut out = io::stdout().lock();
    for scenario in &work.scenarios {
        let observed = Kernel::new(&work.objects).run(scenario);
        serde_json::to_writer(&mut out, &(&scenario.name, observed))?;
        writeln!(out)?;
    }
    Ok(())
}
