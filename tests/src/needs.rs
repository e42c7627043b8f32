//! What a test needs of the machine that it runs on. Each says so if it is missing.

use std::fs::File;

use crate::not_run;

// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this is root, who can become another user.
pub fn root(test: &str) -> bool {
    // SAFETY: geteuid has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    is_root || missing(test, "this is not root")
}

/// Whether taps can be made.
pub fn taps(test: &str) -> bool {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => has(CAP_NET_ADMIN) || missing(test, "CAP_NET_ADMIN is missing"),
        Err(error) => missing(test, &format!("/dev/net/tun: {error}")),
    }
}

/// Whether file systems can be mounted.
pub fn mounts(test: &str) -> bool {
    has(CAP_SYS_ADMIN) || missing(test, "CAP_SYS_ADMIN is missing")
}

/// Whether a program is installed.
pub fn program(test: &str, name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    found || missing(test, &format!("{name} is not installed"))
}

/// Whether the processor has the instructions that DPDK's vectorised packed rings need.
pub fn avx512(test: &str) -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|it| it == flag);
    ["avx512f", "avx512bw", "avx512vl"].into_iter().all(has) || missing(test, "the processor has no AVX-512")
}

fn missing(test: &str, why: &str) -> bool {
    not_run(test, why);
    false
}

fn has(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    set.is_some_and(|set| set >> capability & 1 == 1)
}
