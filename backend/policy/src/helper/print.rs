//! Helpers that print: `bpf_trace_printk`, `bpf_trace_vprintk`, `bpf_snprintf`.

use super::format::{ARGUMENTS_MAX, Prepared};
use super::output::Output;
use super::{Answer, Call, Failure, clock, helpers};
use crate::Errno;
use crate::trace_log::{Line, trace_log};

helpers! {
    6 => trace_printk;
    165 => snprintf;
    177 => trace_vprintk;
}

/// Octets of a line, with its NUL (linux/bpf.h: `MAX_BPRINTF_BUF`).
const LINE_LEN: usize = 1024;
/// Octets of a format, with its NUL. The kernel knows no limit.
const FORMAT_LEN: usize = 2048;

/// A private copy of a format.
#[derive(Debug)]
struct Format {
    octets: [u8; FORMAT_LEN],
    len: usize,
}

/// Arguments that a program has put in an array.
#[derive(Debug)]
struct Arguments {
    values: [u64; ARGUMENTS_MAX],
    count: usize,
}

/// How many lines a machine may still write.
#[derive(Debug)]
pub(super) struct Allowance {
    lines: u64,
    /// When lines were added last, in nanoseconds.
    filled: u64,
    /// Lines that were not written since the last one that was.
    suppressed: u64,
}

// bpf_trace.c: bpf_trace_printk
fn trace_printk(call: &mut Call<'_>, [format, len, first, second, third]: [u64; 5]) -> Answer {
    let format = Format::sized(call, format, len)?;
    trace(call, &format, &[first, second, third])
}

// bpf_trace.c: bpf_trace_vprintk
fn trace_vprintk(call: &mut Call<'_>, [format, len, data, data_len, _]: [u64; 5]) -> Answer {
    let arguments = Arguments::new(call, 3, data, data_len as u32)?;
    let format = Format::sized(call, format, len)?;
    trace(call, &format, arguments.values())
}

// helpers.c: bpf_snprintf
fn snprintf(call: &mut Call<'_>, [text, len, format, data, data_len]: [u64; 5]) -> Answer {
    let arguments = Arguments::new(call, 4, data, data_len as u32)?;
    let format = Format::constant(call, format)?;
    let len = u64::from(len as u32);
    call.charge(len)?;
    let text = call.write(1, text, len)?;
    let machine = &*call.machine;
    let read = |address: u64, to: &mut [u8]| machine.copy_readable(address, to);
    let prepared = Prepared::new(format.octets(), arguments.values(), &read)?;
    // SAFETY: the program may write the octets, as just checked.
    let mut output = unsafe { Output::new(text, len as usize) };
    Ok(prepared.print(&mut output) as u64 + 1)
}

/// Prints into the trace log. The answer is the same for a line that has to be suppressed.
fn trace(call: &mut Call<'_>, format: &Format, arguments: &[u64]) -> Answer {
    let machine = &mut *call.machine;
    let mut text = [0u8; LINE_LEN];
    let read = |address: u64, to: &mut [u8]| machine.copy_readable(address, to);
    let prepared = Prepared::new(format.octets(), arguments, &read)?;
    // SAFETY: the text outlives the output.
    let mut output = unsafe { Output::new(text.as_mut_ptr(), text.len()) };
    let len = prepared.print(&mut output);
    let end = text.iter().position(|octet| *octet == 0).unwrap_or(text.len());
    let now = clock::time(libc::CLOCK_MONOTONIC);
    if let Some(suppressed) = machine.helpers.trace.take(now) {
        let program = machine.program().id;
        trace_log().write(Line::new(program, machine.shard(), now, suppressed, &text[..end]));
    }
    Ok(len as u64)
}

impl Format {
    /// A format whose length the program says.
    fn sized(call: &mut Call<'_>, address: u64, len: u64) -> Result<Format, Failure> {
        let len = u64::from(len as u32);
        let from = call.read(1, address, len)?;
        let mut octets = [0; FORMAT_LEN];
        let copied = (len as usize).min(FORMAT_LEN);
        // SAFETY: the source is accessible, as just checked; the destination is long enough.
        unsafe { std::ptr::copy_nonoverlapping(from, octets.as_mut_ptr(), copied) };
        let too_long = if len as usize > FORMAT_LEN {
            Errno::E2BIG
        } else {
            Errno::EINVAL
        };
        Ok(Format::ending(octets, copied).ok_or(too_long)?)
    }

    /// A format that ends with its NUL.
    fn constant(call: &mut Call<'_>, address: u64) -> Result<Format, Failure> {
        let mut octets = [0; FORMAT_LEN];
        let copied = call.machine.copy_readable(address, &mut octets);
        match Format::ending(octets, copied) {
            Some(format) => Ok(format),
            None if copied == FORMAT_LEN => Err(Errno::E2BIG.into()),
            None => Err(call.refuse(3, address)),
        }
    }

    fn ending(octets: [u8; FORMAT_LEN], len: usize) -> Option<Format> {
        let len = octets[..len].iter().position(|octet| *octet == 0)?;
        Some(Format { octets, len })
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl Arguments {
    fn new(call: &mut Call<'_>, argument: u8, data: u64, len: u32) -> Result<Arguments, Failure> {
        let count = len as usize / 8;
        if !len.is_multiple_of(8) || count > ARGUMENTS_MAX || (len > 0 && data == 0) {
            return Err(Errno::EINVAL.into());
        }
        let from = call.read(argument, data, u64::from(len))?;
        let mut values = [0; ARGUMENTS_MAX];
        // SAFETY: the source is accessible, as just checked; the destination is long enough.
        unsafe { std::ptr::copy_nonoverlapping(from, values.as_mut_ptr().cast(), len as usize) };
        Ok(Arguments { values, count })
    }

    fn values(&self) -> &[u64] {
        &self.values[..self.count]
    }
}

impl Allowance {
    /// Lines in a second, and at once.
    const LINES: u64 = 10_000;
    const NANOSECONDS_PER_LINE: u64 = 1_000_000_000 / Allowance::LINES;

    /// Takes a line, if there is one left; returns how many were refused before it.
    fn take(&mut self, now: u64) -> Option<u64> {
        let earned = now.saturating_sub(self.filled) / Allowance::NANOSECONDS_PER_LINE;
        if earned > 0 {
            self.lines = self.lines.saturating_add(earned).min(Allowance::LINES);
            self.filled = now;
        }
        if self.lines == 0 {
            self.suppressed += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            lines: Allowance::LINES,
            filled: 0,
            suppressed: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_to_its_rate_and_counted() {
        let mut allowance = Allowance::default();
        let start = 5_000_000_000;
        let written = (0..30_000).filter(|_| allowance.take(start).is_some()).count();
        assert_eq!(written, 10_000);
        assert_eq!(allowance.take(start + 99_999), None);
        assert_eq!(allowance.take(start + 100_000), Some(20_001));
        assert_eq!(allowance.take(start + 200_000), Some(0));
    }
}
