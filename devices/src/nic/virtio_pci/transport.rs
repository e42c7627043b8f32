//! The registers of a virtio device behind PCI (virtio 1.3, 4.1.4).

use std::thread::sleep;
use std::time::Duration;

use super::ring::Addresses;
use crate::nic::NicError;
use crate::nic::vfio::{Device, Plain, Registers};

/// PCI configuration space: the status register with its bit for capabilities, and where the first one is.
const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAPABILITIES: u16 = 0x34;
/// A capability that its vendor defines; a virtio device's are `struct virtio_pci_cap`.
const CAPABILITY_VENDOR: u8 = 0x09;
/// More than fit into the configuration space.
const CAPABILITIES_MAX: usize = 48;

/// `cfg_type` of `struct virtio_pci_cap`.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// `struct virtio_pci_common_cfg` (4.1.4.3).
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_MSIX_VECTOR: usize = 16;
const DEVICE_STATUS: usize = 20;
const CONFIG_GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_MSIX_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFF: usize = 30;
const QUEUE_DESC: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;
const COMMON_LEN: usize = 56;

/// No interrupts (4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// `device_status` (2.1).
pub const ACKNOWLEDGE: u8 = 1;
pub const DRIVER: u8 = 2;
pub const DRIVER_OK: u8 = 4;
pub const FEATURES_OK: u8 = 8;
pub const NEEDS_RESET: u8 = 64;
/// What a device that is gone answers.
pub const GONE: u8 = 0xff;

/// A virtio device's registers.
#[derive(Debug)]
pub struct Transport {
    nic: String,
    common: Registers,
    notify: Registers,
    notify_multiplier: usize,
    config: Registers,
}

/// `struct virtio_pci_cap` (4.1.4).
#[derive(Debug, Clone, Copy)]
struct Capability {
    at: u16,
    kind: u8,
    bar: u32,
    offset: u32,
    len: u32,
}

impl Transport {
    /// Finds and maps them.
    pub fn new(device: &Device) -> Result<Transport, NicError> {
        let capabilities = capabilities(device)?;
        let find = |kind: u8, len: usize| {
            // A driver uses the first of each kind that it can (4.1.4.1).
            let mut of_kind = capabilities.iter().filter(|capability| capability.kind == kind);
            match of_kind.find(|capability| capability.len as usize >= len) {
                Some(capability) => Ok(*capability),
                None => Err(refused(
                    device,
                    "find all registers of",
                    "it is no modern virtio device; QEMU: disable-legacy=on",
                )),
            }
        };
        let map = |capability: Capability| {
            device.registers(
                capability.bar,
                u64::from(capability.offset),
                capability.len as usize,
            )
        };
        let notify = find(NOTIFY, 2)?;
        Ok(Transport {
            nic: device.name().to_owned(),
            common: map(find(COMMON, COMMON_LEN)?)?,
            notify: map(notify)?,
            notify_multiplier: device.config_u32(notify.at + 16)? as usize,
            config: map(find(DEVICE, 6)?)?,
        })
    }

    /// Plain memory in the place of registers.
    #[cfg(test)]
    pub fn in_memory() -> Transport {
        Transport {
            nic: "none".to_owned(),
            common: Registers::in_memory(COMMON_LEN),
            notify: Registers::in_memory(64),
            notify_multiplier: 4,
            config: Registers::in_memory(12),
        }
    }

    /// What was last written where a queue is notified, or anything else was.
    #[cfg(test)]
    pub fn notified(&self) -> u16 {
        let value = self.notify.read(0);
        self.notify.write(0, 0xffffu16);
        value
    }

    /// The NIC's name.
    pub fn name(&self) -> &str {
        &self.nic
    }

    /// `device_status`.
    pub fn status(&self) -> u8 {
        self.common.read(DEVICE_STATUS)
    }

    /// Adds bits to `device_status`.
    pub fn add_status(&self, bits: u8) {
        self.common.write(DEVICE_STATUS, self.status() | bits);
    }

    /// Resets the device, and waits until it says that it has (4.1.4.3.2). One that is gone never will.
    pub fn reset(&self) -> Result<(), NicError> {
        self.common.write(DEVICE_STATUS, 0u8);
        for _ in 0..1000 {
            match self.status() {
                0 => return Ok(()),
                GONE => break,
                _ => sleep(Duration::from_millis(1)),
            }
        }
        let hint = "it does not come out of its reset, or is gone";
        Err(NicError::new("reset", &self.nic, libc::ETIMEDOUT, hint))
    }

    /// The features that are offered.
    pub fn offered(&self) -> u64 {
        let half = |select: u32| {
            self.common.write(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read::<u32>(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// Takes features. False if the device does not agree (3.1.1).
    pub fn take(&self, features: u64) -> bool {
        for (select, half) in [(0u32, features as u32), (1, (features >> 32) as u32)] {
            self.common.write(DRIVER_FEATURE_SELECT, select);
            self.common.write(DRIVER_FEATURE, half);
        }
        self.add_status(FEATURES_OK);
        self.status() & FEATURES_OK != 0
    }

    /// Has changes of the configuration fire a vector.
    pub fn set_config_vector(&self, vector: u16) {
        self.common.write(CONFIG_MSIX_VECTOR, vector);
    }

    /// The most entries that a queue can have; 0 if there is no such queue.
    pub fn queue_size(&self, queue: u16) -> u16 {
        self.common.write(QUEUE_SELECT, queue);
        self.common.read(QUEUE_SIZE)
    }

    /// Starts a queue. Says where it is notified.
    pub fn start_queue(
        &self,
        queue: u16,
        size: u16,
        addresses: &Addresses,
        vector: u16,
    ) -> Result<usize, NicError> {
        let common = &self.common;
        let failed =
            |hint: &str| NicError::new(format!("start queue {queue} of"), &self.nic, libc::ENXIO, hint);
        common.write(QUEUE_SELECT, queue);
        common.write(QUEUE_SIZE, size);
        // Fields of 64 bits are written as two of 32 (4.1.3.1).
        for (field, address) in [
            (QUEUE_DESC, addresses.descriptors),
            (QUEUE_DRIVER, addresses.avail),
            (QUEUE_DEVICE, addresses.used),
        ] {
            common.write(field, address as u32);
            common.write(field + 4, (address >> 32) as u32);
        }
        common.write(QUEUE_MSIX_VECTOR, vector);
        if common.read::<u16>(QUEUE_MSIX_VECTOR) != vector {
            return Err(failed("it has no vector for it; take fewer queues"));
        }
        let at = usize::from(common.read::<u16>(QUEUE_NOTIFY_OFF)) * self.notify_multiplier;
        if !at.is_multiple_of(2) || at + 2 > self.notify.octets() {
            return Err(failed(
                "it wants to be notified outside of its notification registers",
            ));
        }
        common.write(QUEUE_ENABLE, 1u16);
        Ok(at)
    }

    /// Tells the device of buffers (4.1.5.2).
    #[inline]
    pub fn notify(&self, at: usize, queue: u16) {
        self.notify.write(at, queue);
    }

    /// Reads the device's configuration with `read`, again if it changed meanwhile (2.5.1).
    pub fn config<T>(&self, read: impl Fn(&Config) -> T) -> T {
        let mut value = read(&Config(&self.config));
        for _ in 0..10 {
            let before: u8 = self.common.read(CONFIG_GENERATION);
            value = read(&Config(&self.config));
            if self.common.read::<u8>(CONFIG_GENERATION) == before {
                break;
            }
        }
        value
    }
}

/// The configuration of a network device, `struct virtio_net_config` (5.1.4). Which fields there are, features say.
#[derive(Debug)]
pub struct Config<'a>(&'a Registers);

impl Config<'_> {
    /// `mac`.
    pub fn mac(&self) -> [u8; 6] {
        std::array::from_fn(|index| self.field::<u8>(index).unwrap_or(0))
    }

    /// `status`: VIRTIO_NET_S_LINK_UP.
    pub fn is_up(&self) -> bool {
        self.field::<u16>(6).unwrap_or(1) & 1 != 0
    }

    /// `max_virtqueue_pairs`.
    pub fn pairs(&self) -> u16 {
        self.field(8).unwrap_or(1)
    }

    /// `mtu`.
    pub fn mtu(&self) -> Option<u16> {
        self.field(10)
    }

    fn field<T: Plain>(&self, at: usize) -> Option<T> {
        (at + size_of::<T>() <= self.0.octets()).then(|| self.0.read(at))
    }
}

/// The virtio capabilities of a device, in order.
fn capabilities(device: &Device) -> Result<Vec<Capability>, NicError> {
    let mut found = Vec::new();
    if device.config_u16(STATUS)? & STATUS_CAPABILITIES == 0 {
        return Ok(found);
    }
    let mut at = u16::from(device.config_u8(CAPABILITIES)?) & !3;
    for _ in 0..CAPABILITIES_MAX {
        if at == 0 {
            break;
        }
        let kind = device.config_u8(at)?;
        // cap_vndr, cap_next, cap_len, cfg_type, bar, id, padding[2], offset, length.
        if kind == CAPABILITY_VENDOR && device.config_u8(at + 2)? >= 16 {
            found.push(Capability {
                at,
                kind: device.config_u8(at + 3)?,
                bar: u32::from(device.config_u8(at + 4)?),
                offset: device.config_u32(at + 8)?,
                len: device.config_u32(at + 12)?,
            });
        }
        at = u16::from(device.config_u8(at + 1)?) & !3;
    }
    // Values of bar above 5 are reserved, and offsets are multiples of four (4.1.4).
    found.retain(|capability| capability.bar <= 5 && capability.offset.is_multiple_of(4));
    Ok(found)
}

/// A device that cannot be used.
pub fn refused(device: &Device, step: &str, hint: &str) -> NicError {
    NicError::new(step, device.name(), libc::EOPNOTSUPP, hint)
}
