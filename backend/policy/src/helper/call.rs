//! A call of a helper: how it gets from the program's integers to memory and maps.

use std::mem::MaybeUninit;

use super::Helper;
use crate::Errno;
use crate::fault::FaultKind;
use crate::layout::READ_ONLY;
use crate::machine::{Machine, Stopped};
use crate::map::{Map, MapKind};

/// What a helper returns in r0.
pub(crate) type Answer = Result<u64, Failure>;

/// Why a helper did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The program may go on, and finds the errno in r0.
    Errno(Errno),
    /// The program may not go on.
    Stopped,
}

/// A call of a helper.
#[derive(Debug)]
pub(crate) struct Call<'m> {
    pub machine: &'m mut Machine,
    /// The helper's number.
    pub helper: u32,
}

/// Room for a key while a helper works with it.
#[derive(Debug)]
pub(crate) struct Scratch([MaybeUninit<u8>; Scratch::LEN]);

/// Octets that a helper may work on without the program paying for it.
const FREE_OCTETS: u64 = 4096;
/// Octets that cost as much as an instruction.
const OCTETS_PER_FUEL: u64 = 32;

impl Call<'_> {
    /// Stops the program because of an argument, counted from 1, that cannot be.
    #[cold]
    pub fn refuse(&mut self, argument: u8, value: u64) -> Failure {
        let helper = self.helper;
        self.machine.stop(FaultKind::Argument {
            helper,
            argument,
            value,
            len: 0,
        });
        Failure::Stopped
    }

    /// A map that the program names, if it is of a kind that the helper works with. The result may be used until the
    /// helper returns.
    #[inline]
    pub fn map<'a>(
        &mut self,
        argument: u8,
        handle: u64,
        suits: impl FnOnce(MapKind) -> bool,
    ) -> Result<&'a Map, Failure> {
        // SAFETY: helpers are called within a run, and none keeps the map for longer.
        match unsafe { self.machine.map(handle) } {
            // verifier.c: check_map_func_compatibility
            Some(map) if suits(map.kind()) => Ok(map),
            _ => Err(self.refuse(argument, handle)),
        }
    }

    /// Where octets that the helper reads lie.
    #[inline]
    pub fn read(&mut self, argument: u8, address: u64, len: u64) -> Result<*const u8, Failure> {
        Ok(self
            .machine
            .argument(self.helper, argument, address, len, false)?
            .cast_const())
    }

    /// Where octets that the helper writes lie.
    #[inline]
    pub fn write(&mut self, argument: u8, address: u64, len: u64) -> Result<*mut u8, Failure> {
        Ok(self.machine.argument(self.helper, argument, address, len, true)?)
    }

    /// A private copy of octets.
    #[inline]
    pub fn copy<const LEN: usize>(&mut self, argument: u8, address: u64) -> Result<[u8; LEN], Failure> {
        let from = self.read(argument, address, LEN as u64)?;
        let mut octets = [0; LEN];
        // SAFETY: the source is accessible, as just checked. Other shards may write it meanwhile: then this is a copy
        // of some of each.
        unsafe { std::ptr::copy_nonoverlapping(from, octets.as_mut_ptr(), LEN) };
        Ok(octets)
    }

    /// Puts octets where the program wants them.
    #[inline]
    pub fn store(&mut self, argument: u8, address: u64, octets: &[u8]) -> Result<(), Failure> {
        let to = self.write(argument, address, octets.len() as u64)?;
        // SAFETY: the destination is accessible, as just checked, and the source is not in a window.
        unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), to, octets.len()) };
        Ok(())
    }

    /// Octets that do not change while the helper works: where they lie, if only this shard reaches them, or a copy.
    #[inline]
    pub fn stable(
        &mut self,
        argument: u8,
        address: u64,
        len: u32,
        scratch: &mut Scratch,
    ) -> Result<*const u8, Failure> {
        let octets = self.read(argument, address, u64::from(len))?;
        // Context, stack and packet lie below all map memory and are this window's own.
        if (address as u32) < READ_ONLY {
            return Ok(octets);
        }
        if len as usize > Scratch::LEN {
            return Err(self.refuse(argument, address));
        }
        // SAFETY: the source is accessible, as just checked; the scratch is long enough.
        unsafe { std::ptr::copy_nonoverlapping(octets, scratch.0.as_mut_ptr().cast(), len as usize) };
        Ok(scratch.0.as_ptr().cast())
    }

    /// Has the program pay for work on octets when they are many, and stops it when it cannot.
    #[inline]
    pub fn charge(&mut self, octets: u64) -> Result<(), Failure> {
        if octets <= FREE_OCTETS {
            return Ok(());
        }
        let cost = (octets / OCTETS_PER_FUEL).min(i64::MAX as u64) as i64;
        self.charge_fuel(cost)
    }

    /// Has the program pay as for that many instructions, and stops it when it cannot.
    pub fn charge_fuel(&mut self, cost: i64) -> Result<(), Failure> {
        let fuel = &mut self.machine.words.fuel;
        if *fuel < cost {
            return Err(self.machine.stop(FaultKind::Fuel).into());
        }
        *fuel -= cost;
        Ok(())
    }
}

impl Machine {
    /// How many of `len` octets from a window address on the program can read. Not for the fast path.
    pub(super) fn readable(&self, address: u64, len: u32) -> u32 {
        if self.slice(address, len, false).is_some() {
            return len;
        }
        // Regions are contiguous: what is too long stays too long.
        let (mut fits, mut too_long) = (0, len);
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            match self.slice(address, middle, false) {
                Some(_) => fits = middle,
                None => too_long = middle,
            }
        }
        fits
    }

    /// Copies as many octets as the program can read, and says how many that were.
    pub(super) fn copy_readable(&self, address: u64, to: &mut [u8]) -> usize {
        let len = self.readable(address, u32::try_from(to.len()).unwrap_or(u32::MAX));
        if let Some(from) = self.slice(address, len, false).filter(|_| len > 0) {
            // SAFETY: the source is accessible, as just checked, and the destination is not in a window.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), len as usize) };
        }
        len as usize
    }
}

impl Scratch {
    /// The longest key that a map can have (linux/filter.h: `MAX_BPF_STACK`).
    pub const LEN: usize = 512;

    #[inline(always)]
    pub fn new() -> Scratch {
        Scratch([MaybeUninit::uninit(); Scratch::LEN])
    }
}

impl From<Errno> for Failure {
    #[inline]
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}

impl From<Stopped> for Failure {
    #[inline]
    fn from(_: Stopped) -> Failure {
        Failure::Stopped
    }
}

/// What the program finds in r0.
#[inline(always)]
pub(crate) fn register(answer: Answer) -> u64 {
    match answer {
        Ok(value) => value,
        Err(Failure::Errno(errno)) => errno.to_register(),
        Err(Failure::Stopped) => 0,
    }
}

/// Makes `HELPERS` of numbers and functions from a [`Call`] and `[u64; 5]` to an [`Answer`]. The word `calls_back`
/// behind a function marks one that calls functions of the program.
macro_rules! helpers {
    ($($id:literal => $function:expr $(, $calls_back:ident)?;)+) => {
        /// The helpers of this module.
        pub(crate) const HELPERS: &[$crate::helper::Helper] = &[$({
            extern "sysv64" fn entry(
                machine: &mut $crate::machine::Machine,
                r1: u64,
                r2: u64,
                r3: u64,
                r4: u64,
                r5: u64,
            ) -> u64 {
                let mut call = $crate::helper::Call { machine, helper: $id };
                $crate::helper::call::register($function(&mut call, [r1, r2, r3, r4, r5]))
            }
            const CALLS_BACK: &[&str] = &[$(stringify!($calls_back))?];
            $crate::helper::Helper {
                id: $id,
                function: entry,
                calls_back: !CALLS_BACK.is_empty(),
            }
        }),+];
    };
}
pub(crate) use helpers;

const _: () = assert!(size_of::<Helper>() <= 16);
