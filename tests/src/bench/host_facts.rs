//! What there is to know about the machine and the programs, for who reads the figures elsewhere. No names, no paths.

use std::process::Command;

use serde::Serialize;

/// Of the processor's flags, those that copying and checksums can use.
const FLAGS: [&str; 8] = [
    "sse4_2",
    "avx",
    "avx2",
    "avx512f",
    "avx512bw",
    "erms",
    "fsrm",
    "hypervisor",
];
const PACKAGES: [&str; 4] = ["dpdk", "openvswitch-switch-dpdk", "iperf3", "clang"];

/// Of the time at which it is asked for.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    pub processor: String,
    pub processors: usize,
    pub flags: Vec<String>,
    pub kernel: String,
    pub memory_kib: u64,
    /// Whether everybody had huge pages of 2 MiB.
    pub huge_pages: bool,
    /// What was missing for them.
    pub huge_pages_missing: Option<String>,
    pub packages: Vec<(String, String)>,
    pub commit: String,
    pub date: String,
    /// Over one, five and fifteen minutes, before anything was measured.
    pub load_average: String,
}

impl HostFacts {
    /// Looks around.
    pub fn look(huge_pages_missing: Option<String>) -> HostFacts {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags");
        let has = |flag: &&&str| flags.split_whitespace().any(|it| it == **flag);
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        HostFacts {
            processor: field(&cpuinfo, "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            flags: FLAGS.iter().filter(has).map(ToString::to_string).collect(),
            kernel: read("/proc/sys/kernel/osrelease"),
            memory_kib: memory
                .split(' ')
                .next()
                .and_then(|it| it.parse().ok())
                .unwrap_or(0),
            huge_pages: huge_pages_missing.is_none(),
            huge_pages_missing,
            packages: packages(),
            commit: commit(),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            load_average: read("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    /// A list.
    pub fn to_markdown(&self) -> String {
        let packages: Vec<String> = self
            .packages
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let pages = match &self.huge_pages_missing {
            None => "2 MiB for everybody".to_owned(),
            Some(why) => format!("4 KiB for everybody ({why})"),
        };
        format!(
            "- processor: {} ({} processors; {})\n- kernel: {}\n- memory: {} MiB\n- pages of guests: {pages}\n\
             - packages: {}\n- commit: {}\n- date: {}\n- load average at the start: {}\n\n",
            self.processor,
            self.processors,
            self.flags.join(" "),
            self.kernel,
            self.memory_kib / 1024,
            packages.join(", "),
            self.commit,
            self.date,
            self.load_average,
        )
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The value behind a name and a colon, of the first line that has it.
fn field(text: &str, name: &str) -> String {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let value = pairs
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim());
    value.unwrap_or_default().to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

fn packages() -> Vec<(String, String)> {
    let version = |name: &str| output("dpkg-query", &["-W", "-f=${Version}", name]);
    let versions = PACKAGES.iter().map(|name| (name.to_string(), version(name)));
    versions.filter(|(_, version)| !version.is_empty()).collect()
}

fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    match output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        true => commit,
        false => format!("{commit} with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_neither_host_nor_paths() {
        let page = HostFacts::look(None).to_markdown();
        let name = read("/proc/sys/kernel/hostname");
        assert!(!page.contains("/home") && !page.contains("/tmp"), "{page}");
        assert!(name.len() < 3 || !page.contains(&name), "{page}");
        assert!(page.contains("- processor: ") && page.contains("2 MiB for everybody"));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 167\nmodel name\t: Some Processor\nmodel name\t: Another\n";
        assert_eq!(field(text, "model name"), "Some Processor");
        assert_eq!(field(text, "name"), "");
    }
}
