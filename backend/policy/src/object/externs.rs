//! Externs: what an object expects the kernel to have, of which its configuration is supplied.

use std::collections::HashMap;

use super::ObjectError;
use super::btf::{Btf, Kind};
use super::elf::{Elf, Symbol};

/// The section of externs that are the kernel's configuration.
const KCONFIG: &str = ".kconfig";
/// Octets that the configuration may have.
const KCONFIG_MAX: u64 = 1 << 16;

/// The kernel that programs find themselves in: the one whose netkit is implemented.
const LINUX_KERNEL_VERSION: u64 = 6 << 16 | 12 << 8;

/// A value of the configuration.
#[derive(Debug, Clone, Copy)]
enum Setting {
    /// `y`.
    Yes,
    Number(u64),
    Text(&'static str),
}

/// What the configuration says. What it does not name is not set.
const SETTINGS: [(&str, Setting); 24] = [
    ("LINUX_KERNEL_VERSION", Setting::Number(LINUX_KERNEL_VERSION)),
    ("LINUX_HAS_BPF_COOKIE", Setting::Number(0)),
    ("LINUX_HAS_SYSCALL_WRAPPER", Setting::Number(1)),
    ("CONFIG_64BIT", Setting::Yes),
    ("CONFIG_BPF", Setting::Yes),
    ("CONFIG_BPF_JIT", Setting::Yes),
    ("CONFIG_BPF_SYSCALL", Setting::Yes),
    ("CONFIG_CC_VERSION_TEXT", Setting::Text("")),
    ("CONFIG_DEFAULT_HOSTNAME", Setting::Text("(none)")),
    ("CONFIG_HZ", Setting::Number(250)),
    ("CONFIG_HZ_250", Setting::Yes),
    ("CONFIG_INET", Setting::Yes),
    ("CONFIG_IPV6", Setting::Yes),
    ("CONFIG_LOCALVERSION", Setting::Text("")),
    ("CONFIG_NET", Setting::Yes),
    ("CONFIG_NETKIT", Setting::Yes),
    ("CONFIG_NET_CLS_ACT", Setting::Yes),
    ("CONFIG_NET_CLS_BPF", Setting::Yes),
    ("CONFIG_NET_INGRESS", Setting::Yes),
    ("CONFIG_NET_SCHED", Setting::Yes),
    ("CONFIG_NET_XGRESS", Setting::Yes),
    ("CONFIG_PAGE_SHIFT", Setting::Number(12)),
    ("CONFIG_SMP", Setting::Yes),
    ("CONFIG_X86_64", Setting::Yes),
];

/// The externs of an object.
#[derive(Debug, Default)]
pub(super) struct Externs {
    /// The values of the configuration that the object asks for, as one section.
    pub configuration: Vec<u8>,
    /// Where in that section, by name.
    offsets: HashMap<String, u32>,
}

/// What an extern turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A value at an offset of the configuration.
    Configuration(u32),
    /// Nothing, which the program is ready for.
    Nothing,
}

impl Externs {
    /// Finds values for what the object asks of the configuration, and has the types say where they are.
    pub fn read(elf: &Elf<'_>, btf: Option<&mut Btf>) -> Result<Externs, ObjectError> {
        let mut externs = Externs::default();
        let Some(btf) = btf else {
            return Ok(externs);
        };
        let Some((section, variables)) = btf.section(KCONFIG) else {
            return Ok(externs);
        };
        let weak: HashMap<&str, bool> = elf
            .symbols
            .iter()
            .filter(|symbol| symbol.section.is_none())
            .map(|symbol| (symbol.name, symbol.is_weak))
            .collect();
        for variable in variables {
            let Some(found) = btf.get(variable.variable) else {
                continue;
            };
            let Kind::Variable { target, .. } = found.kind else {
                continue;
            };
            let is_weak = weak.get(found.name).copied().unwrap_or(false);
            let value = configured(btf, found.name, target, is_weak)
                .map_err(|problem| ObjectError::external(found.name, problem))?;
            externs.push(found.name, &value, btf.alignment(target))?;
        }
        let len = externs.configuration.len() as u32;
        btf.place_section(section, len, |name| externs.offsets.get(name).copied());
        Ok(externs)
    }

    fn push(&mut self, name: &str, value: &[u8], alignment: u64) -> Result<(), ObjectError> {
        let start = self.configuration.len().next_multiple_of(alignment as usize);
        self.configuration.resize(start, 0);
        self.configuration.extend_from_slice(value);
        self.offsets.insert(name.to_owned(), start as u32);
        if self.configuration.len() as u64 > KCONFIG_MAX {
            return Err(ObjectError::section(
                KCONFIG,
                format!("it has more than {KCONFIG_MAX} octets"),
            ));
        }
        Ok(())
    }

    /// What the symbol of another file is; the problem if it has to be there and is not.
    pub fn find(&self, symbol: &Symbol<'_>) -> Result<Found, ObjectError> {
        if let Some(offset) = self.offsets.get(symbol.name) {
            return Ok(Found::Configuration(*offset));
        }
        if symbol.is_weak {
            return Ok(Found::Nothing);
        }
        Err(ObjectError::external(
            symbol.name,
            "neither this object nor the engine has it: kernel functions (kfuncs) and kernel variables \
             (__ksym) do not exist here; use a helper, or declare it __weak and test it before use",
        ))
    }
}

/// The octets of a value of the configuration, as its type wants them (libbpf.c: `set_kcfg_value_*`).
fn configured(btf: &Btf, name: &str, target: u32, is_weak: bool) -> Result<Vec<u8>, String> {
    let size = btf.size(target).map_err(|error| error.to_string())?;
    let size = usize::try_from(size.min(KCONFIG_MAX)).unwrap_or(0);
    let setting = SETTINGS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, setting)| *setting);
    let Some(setting) = setting else {
        return match is_weak {
            true => Ok(vec![0; size]),
            false => {
                Err("the configuration of this engine does not say: declare it __weak, and it is 0".into())
            }
        };
    };
    let (_, found) = btf.resolve(target).map_err(|error| error.to_string())?;
    let number = match (found.kind, setting) {
        (Kind::Array(_), Setting::Text(text)) => {
            let mut value = text.as_bytes().to_vec();
            // The last octet is the zero that ends the string.
            value.resize(size.saturating_sub(1).min(value.len()), 0);
            value.resize(size, 0);
            return Ok(value);
        }
        (Kind::Int(int), Setting::Yes) if int.is_bool => 1,
        (Kind::Int(int), Setting::Yes) if int.size == 1 => u64::from(b'y'),
        // libbpf's bpf_helpers.h: TRI_YES.
        (Kind::Enumeration(_), Setting::Yes) if found.name == "libbpf_tristate" => 1,
        (Kind::Int(int), Setting::Number(number)) if !int.is_bool || number <= 1 => number,
        _ => return Err(format!("it is {setting:?} here, which is not of its type")),
    };
    let octets = number.to_le_bytes();
    match octets.split_at_checked(size) {
        Some((value, rest)) if rest.iter().all(|octet| *octet == 0) => Ok(value.to_vec()),
        _ => Err(format!("its value {number} does not fit {size} octets")),
    }
}
