//! Programs of other people: objects or C sources in the directory that `NETKIT_PROGRAMS` names, the kernel's own
//! selftests for example. Each is loaded by the engine and by the host's kernel, and each program that both have runs
//! once; what differs is counted and told.

mod common;

use std::path::Path;
use std::process::Command;

use common::frames::*;
use common::host::Host;
use common::sides::Ours;
use policy::context::SkBuff;
use policy::engine::{Engine, LoadOptions};
use policy::object::Object;

#[test]
fn programs_of_others_do_what_they_do_in_the_kernel() {
    let Some(directory) = std::env::var_os("NETKIT_PROGRAMS") else {
        return common::not_run(
            "programs_of_others_do_what_they_do_in_the_kernel",
            "NETKIT_PROGRAMS is not set",
        );
    };
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut counts = [0; 5];
    for file in files {
        if let Some(octets) = object_of(&file) {
            counts[0] += 1;
            compare(&file, &octets, &mut counts);
        }
    }
    let [objects, loaded, both, runs, alike] = counts;
    println!(
        "{objects} objects, {loaded} loaded here, {both} also in the kernel, {runs} runs, {alike} alike"
    );
    assert!(objects > 0);
    assert_eq!(alike, runs);
}

fn object_of(file: &Path) -> Option<Vec<u8>> {
    match file.extension()?.to_str()? {
        "o" => std::fs::read(file).ok(),
        "c" if is_for_tc(file) => {
            let directory = tempfile::tempdir().unwrap();
            let object = directory.path().join("object.o");
            let parent = file.parent()?;
            let output = Command::new("clang")
                .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_x86"])
                .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
                .arg("-I")
                .arg(parent)
                .arg("-I")
                .arg(parent.join(".."))
                .args(
                    std::env::var("NETKIT_PROGRAMS_FLAGS")
                        .unwrap_or_default()
                        .split_whitespace(),
                )
                .arg("-c")
                .arg(file)
                .arg("-o")
                .arg(&object)
                .output()
                .ok()?;
            output.status.success().then(|| std::fs::read(object).unwrap())
        }
        _ => None,
    }
}

fn is_for_tc(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    [
        "SEC(\"tc",
        "SEC(\"classifier",
        "SEC(\"netkit",
        "SEC(\"?tc",
        "SEC(\"action",
    ]
    .iter()
    .any(|section| text.contains(section))
}

fn compare(file: &Path, octets: &[u8], counts: &mut [u32; 5]) {
    let name = file.file_name().unwrap().to_string_lossy();
    let object = match Object::parse(octets) {
        Ok(object) => object,
        Err(error) => return println!("{name}: not read: {error}"),
    };
    let mut engine = Engine::new(common::sides::config());
    if let Err(error) = engine.load(&object, &LoadOptions::default()) {
        let kernel = Host::load(octets, &object).is_ok();
        return println!(
            "{name}: not loaded: {error}{}",
            if kernel { " (THE KERNEL LOADS IT)" } else { "" }
        );
    }
    counts[1] += 1;
    let Ok(host) = Host::load(octets, &object) else {
        return println!("{name}: not loaded by the kernel");
    };
    counts[2] += 1;
    let ends = Ends::new(&GUEST, 5000, &REMOTE, 80);
    let ends6 = Ends::new(&GUEST6, 5000, &REMOTE6, 80);
    for program in &object.programs {
        for frame in [tcp_frame(ends, SYN), udp_frame(ends6, &[7; 100])] {
            let Ok(expected) = host.run(&program.name, &frame, &SkBuff::default()) else {
                continue;
            };
            for interpreter in [true, false] {
                let ours = Ours::new(octets, interpreter);
                counts[3] += 1;
                match ours.run(&program.name, &frame, &SkBuff::default()) {
                    Ok(ran) if (ran.result, &ran.frame) == (expected.result, &expected.octets) => {
                        counts[4] += 1
                    }
                    Ok(ran) => println!(
                        "{name}: {}: {} here, {} in the kernel{}",
                        program.name,
                        ran.result as i32,
                        expected.result as i32,
                        if ran.frame == expected.octets {
                            ""
                        } else {
                            ", another frame"
                        }
                    ),
                    Err(error) => println!(
                        "{name}: {}: {error}; {} in the kernel",
                        program.name, expected.result as i32
                    ),
                }
            }
        }
    }
}
