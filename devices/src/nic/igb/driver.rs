//! Brings a NIC up (82576 datasheet, 4.5), and puts it to rest.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::control::IgbControl;
use super::interrupts;
use super::model::Model;
use super::receive::{self, IgbReceive};
use super::registers as r;
use super::transmit::{self, IgbTransmit};
use crate::nic::vfio::{Device, DmaMemory, Events, Interrupt, Registers, new_event};
use crate::nic::{Capabilities, Nic, NicError, NicPort, Receive, Transmit};
use crate::packet::{MacAddress, OffloadFeatures};

/// The MTU that the driver allows, as Linux does.
pub const MTU: u32 = 9216;
/// The longest frame on the wire, with Ethernet header and two VLAN tags.
pub const WIRE_FRAME: usize = MTU as usize + 14 + 8;
/// The longest frame that is handed to the NIC to be cut.
const FRAME_MAX: usize = 65535 + 14 + 8;

/// What the parts of the driver share.
#[derive(Debug)]
pub struct Adapter {
    /// The NIC's registers.
    pub registers: Registers,
    /// The NIC.
    pub device: Device,
    /// Which one it is.
    pub model: Model,
    /// Queue pairs in use.
    pub queues: usize,
    /// Keeps what the NIC may write to mapped until it is at rest.
    _memory: DmaMemory,
}

#[cfg(test)]
impl Adapter {
    /// One whose registers are plain memory.
    pub fn without_device(queues: usize) -> Arc<Adapter> {
        Arc::new(Adapter {
            registers: Registers::in_memory(r::LEN),
            device: Device::none(),
            model: Model::of(0x10c9).expect("the 82576 is known"),
            queues,
            _memory: DmaMemory::without_device(4096),
        })
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        interrupts::mask(&self.registers);
        self.registers.write(r::RCTL, 0u32);
        self.registers.write(r::TCTL, 0u32);
        self.device.quiet();
    }
}

/// Starts a NIC.
pub fn open(device: Device, model: Model, queues: u16) -> Result<Nic, NicError> {
    device.reset()?;
    let registers = device.registers(0, 0, r::LEN)?;
    let vectors = device.interrupts(Interrupt::MsiX);
    let queues = usize::from(queues.clamp(1, model.queues)).min(vectors.saturating_sub(1));
    if queues == 0 {
        let hint = "it needs two MSI-X vectors at least; see whether the host has MSI turned off (pci=nomsi)";
        return Err(NicError::new("use", device.name(), libc::ENOSPC, hint));
    }
    let len = queues * (receive::MEMORY + transmit::MEMORY);
    let mut memory = DmaMemory::new(device.container(), len, device.name())?;
    let adapter = Arc::new(Adapter {
        registers,
        device,
        model,
        queues,
        _memory: memory.take(0),
    });
    reset(&adapter)?;
    let address = own_address(&adapter)?;
    let nic = adapter.device.name();
    let events = Events::new(&adapter.device)?;
    let mut vectors = Vec::new();
    for _ in 0..queues {
        vectors.push(new_event(nic)?);
    }
    // Behind the reset, which takes them away.
    let mut fds: Vec<_> = vectors.iter().map(AsRawFd::as_raw_fd).collect();
    fds.push(events.changed.as_raw_fd());
    adapter.device.set_interrupts(Interrupt::MsiX, &fds)?;
    adapter.device.set_bus_master(true)?;

    let mut pairs: Vec<(Box<dyn Receive>, Box<dyn Transmit>)> = Vec::new();
    set_up_receive(&adapter.registers, queues);
    for (queue, wake) in vectors.into_iter().enumerate() {
        let receive = IgbReceive::new(&adapter, queue, &mut memory, wake);
        let transmit = IgbTransmit::new(&adapter, queue, &mut memory);
        pairs.push((Box::new(receive), Box::new(transmit)));
    }
    let control = IgbControl::new(Arc::clone(&adapter), events, address);
    enable(&adapter)?;
    interrupts::set_up(&adapter.registers, &adapter.model, queues);
    Ok(Nic {
        port: NicPort::new(CAPABILITIES, pairs),
        control: Box::new(control),
    })
}

/// UDP is not left to be cut: QEMU's model makes IP fragments of it. Nor is TCP with CWR, which belongs on the first segment
/// only.
const CAPABILITIES: Capabilities = Capabilities {
    offloads: OffloadFeatures {
        csum: true,
        tso4: true,
        tso6: true,
        ecn: false,
        uso: false,
    },
    receives_gso: false,
    pieces_max: usize::MAX, // Frames are copied to where the NIC sees them.
    frame_max: FRAME_MAX,
};

/// Software reset and link start (4.3, 4.5.4).
fn reset(adapter: &Adapter) -> Result<(), NicError> {
    let registers = &adapter.registers;
    let modify = |register: usize, clear: u32, set: u32| {
        registers.write(register, registers.read::<u32>(register) & !clear | set);
    };
    interrupts::mask(registers);
    modify(r::CTRL, 0, r::CTRL_RST);
    sleep(Duration::from_millis(3)); // At least one, by 4.2.1.6.1.
    let done = |registers: &Registers| registers.read::<u32>(r::EECD) & r::EECD_AUTO_RD != 0;
    // QEMU's model never says that it has read its configuration.
    if !wait(20, || done(registers)) && registers.read::<u32>(r::CTRL) & r::CTRL_RST != 0 {
        let hint = "it does not come out of its reset; try it with the host's driver";
        return Err(NicError::new(
            "reset",
            adapter.device.name(),
            libc::ETIMEDOUT,
            hint,
        ));
    }
    interrupts::mask(registers);
    modify(r::CTRL_EXT, r::CTRL_EXT_LINK_MODE, r::CTRL_EXT_DRV_LOAD);
    // A transfer that the IOMMU refuses is not tried for ever (8.6.1).
    modify(r::GCR, r::GCR_COMPLETION_TIMEOUT_RESEND, 0);
    modify(r::CTRL, 0, r::CTRL_SLU);
    restart_negotiation(registers);
    Ok(())
}

/// Powers the PHY up and has it negotiate. The link comes up by itself later.
fn restart_negotiation(registers: &Registers) {
    const CONTROL: u32 = 0; // IEEE 802.3, 22.2.4.1.
    const NEGOTIATE_AND_RESTART: u32 = 0x1200;
    let command = CONTROL << r::MDIC_REGISTER_SHIFT | r::MDIC_PHY | r::MDIC_WRITE | NEGOTIATE_AND_RESTART;
    registers.write(r::MDIC, command);
    wait(10, || registers.read::<u32>(r::MDIC) & r::MDIC_READY != 0);
}

/// The address that the reset has loaded from the NIC's memory.
fn own_address(adapter: &Adapter) -> Result<MacAddress, NicError> {
    let (low, high) = r::address(0);
    let low = adapter.registers.read::<u32>(low).to_le_bytes();
    let high = adapter.registers.read::<u32>(high).to_le_bytes();
    let address = MacAddress([low[0], low[1], low[2], low[3], high[0], high[1]]);
    if address.is_unicast() {
        return Ok(address);
    }
    let hint = format!("{address} is none: the NIC has lost its configuration, or is gone");
    Err(NicError::new(
        "find the address of",
        adapter.device.name(),
        libc::ENODEV,
        hint,
    ))
}

/// What all receive queues share: checksums, spreading, long frames.
fn set_up_receive(registers: &Registers, queues: usize) {
    registers.write(r::RLPML, WIRE_FRAME as u32 + 4);
    // The checksum field of descriptors holds the hash, which spreading needs (7.1.2.8).
    registers.write(r::RXCSUM, r::RXCSUM_IPOFLD | r::RXCSUM_TUOFLD | r::RXCSUM_PCSD);
    for word in 0..r::RSSRK_WORDS {
        registers.write(r::RSSRK + 4 * word, random());
    }
    for word in 0..r::RETA_ENTRIES / 4 {
        let entries: [u8; 4] = std::array::from_fn(|entry| ((4 * word + entry) % queues) as u8);
        registers.write(r::RETA + 4 * word, u32::from_le_bytes(entries));
    }
}

/// Lets frames flow. Queues say that they are enabled only then, and take descriptors only after that (8.10.10, 8.12.13).
fn enable(adapter: &Adapter) -> Result<(), NicError> {
    let registers = &adapter.registers;
    registers.write(r::TCTL, r::TCTL_EN | r::TCTL_PSP | r::TCTL_CT | r::TCTL_RTLC);
    for queue in 0..adapter.queues {
        for register in [r::RXDCTL, r::TXDCTL] {
            let register = r::of_queue(register, queue);
            if !wait(10, || registers.read::<u32>(register) & r::QUEUE_ENABLE != 0) {
                let step = format!("enable queue {queue} of");
                let hint = "it does not do what its datasheet says";
                return Err(NicError::new(step, adapter.device.name(), libc::ETIMEDOUT, hint));
            }
        }
        registers.write(r::of_queue(r::RDT, queue), receive::RING as u32 - 1);
    }
    Ok(())
}

/// Looks until it is so, for some milliseconds at most.
fn wait(milliseconds: u32, mut is_so: impl FnMut() -> bool) -> bool {
    for _ in 0..milliseconds {
        if is_so() {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    is_so()
}

/// A part of a key that senders cannot guess, so that they cannot choose the queue.
fn random() -> u32 {
    let mut octets = [0x6d, 0x5a, 0x56, 0xda];
    // SAFETY: the kernel writes at most four octets; if it does not, a known key spreads as well.
    unsafe { libc::getrandom(octets.as_mut_ptr().cast(), octets.len(), 0) };
    u32::from_le_bytes(octets)
}
