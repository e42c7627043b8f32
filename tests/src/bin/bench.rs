//! `make bench`: netkitd beside DPDK, Open vSwitch, rust-vmm's daemon and the kernel.

use std::process::ExitCode;
use std::time::Instant;

use netkit_tests::bench::command_line::{Options, Task, USAGE};
use netkit_tests::bench::generator::Generator;
use netkit_tests::bench::host_facts::HostFacts;
use netkit_tests::bench::huge_pages::HugePages;
use netkit_tests::bench::peers::Kind;
use netkit_tests::bench::rounds::Bench;
use netkit_tests::bench::works::WORKS;
use netkit_tests::bench::{Error, profile, report};
use netkit_tests::netkitd::program;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("bench: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    if options.task == Task::List {
        list();
        return Ok(());
    }
    let (pages, missing) = match HugePages::reserve() {
        Ok(pages) => (Some(pages), None),
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(why) = &missing {
        println!("no huge pages: {why}");
    }
    let generator = Generator {
        program: options.load.clone().unwrap_or_else(|| program("load")),
        huge_pages: pages.is_some(),
    };
    if options.task == Task::Profile {
        print!("{}", profile::run(&generator, options.timing, &options.out)?);
        return Ok(());
    }
    let begun = Instant::now();
    let facts = HostFacts::look(missing);
    print!("{}", facts.to_markdown());
    let results = Bench::new(options, generator).run();
    report::write(&options.out, &facts, options, &results)?;
    println!(
        "\n{} measurement(s) not run, {} s; the table is {}",
        report::count_not_run(&results),
        begun.elapsed().as_secs(),
        options.out.join("latest.md").display()
    );
    Ok(())
}

fn list() {
    println!("rows:");
    for work in WORKS {
        println!("  {:<24} {}", work.id, work.title);
    }
    println!("peers:");
    for kind in Kind::ALL {
        println!("  {:<24} {}", kind.id(), kind.title());
    }
}
