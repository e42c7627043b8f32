//! A program's instructions, line by line.

use netkit_api::DumpLine;
use policy::{Program, disassemble};

/// The instructions as both engines run them, in the kernel's notation.
pub fn xlated(program: &Program) -> Vec<DumpLine> {
    let code = &program.code;
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(instruction) = code.instructions.get(at) {
        let len = if instruction.is_wide() { 2 } else { 1 };
        let octets = code.instructions[at..]
            .iter()
            .take(len)
            .flat_map(|it| it.to_octets());
        lines.push(DumpLine {
            at: at as u64,
            function: function(program, at),
            source: source(program, at),
            text: disassemble::line(code, at, &MapNames(program)),
            octets: octets.map(|octet| format!("{octet:02x}")).collect(),
        });
        at += len;
    }
    lines
}

/// The native code; none if the program is interpreted.
pub fn jited(program: &Program) -> Vec<DumpLine> {
    let Some(compiled) = &program.compiled else {
        return Vec::new();
    };
    let machine_code = compiled.machine_code();
    let text: Vec<(usize, String)> = compiled.disassemble();
    let ends = text
        .iter()
        .skip(1)
        .map(|(offset, _)| *offset)
        .chain([machine_code.len()]);
    let mut last = None;
    let mut line = |((offset, text), end): (&(usize, String), usize)| {
        let instruction = compiled.instruction_at(*offset);
        let new = instruction.filter(|_| instruction != last);
        last = instruction.or(last);
        DumpLine {
            at: *offset as u64,
            function: new.and_then(|at| function(program, at)),
            source: new.and_then(|at| source(program, at)),
            text: text.clone(),
            octets: machine_code
                .get(*offset..end)
                .unwrap_or_default()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect(),
        }
    };
    text.iter().zip(ends).map(&mut line).collect()
}

/// Maps by id, as the kernel prints them.
struct MapNames<'a>(&'a Program);

impl disassemble::Names for MapNames<'_> {
    fn map(&self, handle: u32) -> Option<u32> {
        let map = self.0.maps.iter().find(|map| u32::from(map.handle()) == handle)?;
        Some(map.id())
    }

    fn map_value(&self, address: u32) -> Option<(u32, u32)> {
        self.0.maps.iter().find_map(|map| {
            let layout = map.array_layout()?;
            let offset = address.checked_sub(layout.start)?;
            (offset < layout.stride).then_some((map.id(), offset))
        })
    }
}

fn function(program: &Program, at: usize) -> Option<String> {
    let function = program
        .code
        .functions
        .iter()
        .find(|function| function.start == at)?;
    Some(function.name.clone())
}

fn source(program: &Program, at: usize) -> Option<String> {
    let line = program.code.lines.iter().find(|line| line.instruction == at)?;
    Some(format!("{}:{}: {}", line.file, line.line, line.text.trim()))
}
