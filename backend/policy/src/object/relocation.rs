//! Relocations of instructions: what each address and call in a function leads to.

use std::cell::{Cell, RefCell};

use object::elf::{R_BPF_64_32, R_BPF_64_64};

use super::elf::{Elf, Relocation, Symbol};
use super::externs::{Externs, Found};
use super::functions::{Function, Functions, note};
use super::maps::{Address, Maps};
use super::types::Types;
use super::{ObjectError, core_relocation};
use crate::{Instruction, class, layout, mode, opcode, pseudo, size};

/// A function whose instructions are final but for the distances to other functions.
#[derive(Debug)]
pub(super) struct Relocated {
    pub instructions: Vec<Instruction>,
    /// Instructions that lead to functions: calls, and `lddw` of a function's address.
    pub references: Vec<Reference>,
}

/// An instruction that leads to a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub instruction: usize,
    /// The place in [`Functions::all`].
    pub function: usize,
}

/// A call of a function that is not there: a load from where nothing is, so that a run that gets here fails.
///
/// The kernel refuses programs that get here; those that test for the function (`bpf_ksym_exists`) do not.
const MISSING: Instruction = Instruction {
    opcode: class::LDX | mode::MEM | size::DW,
    dst: 0,
    src: 10,
    offset: MISSING_OFFSET,
    imm: 0,
};
/// From any frame, this far behind it is above the stack and below the frame's octets.
const MISSING_OFFSET: i16 = 0x4000;
const _: () = assert!(MISSING_OFFSET as u32 >= layout::STACK_LEN);
const _: () = assert!(layout::STACK_TOP + (MISSING_OFFSET as u32) + 8 <= layout::PACKET);

/// The most instructions of an object that depend on types.
pub(super) const TYPE_RELOCATIONS_MAX: usize = 1 << 16;

/// What relocations refer to.
#[derive(Debug)]
pub(super) struct Relocator<'a> {
    pub elf: &'a Elf<'a>,
    pub types: &'a Types,
    pub externs: &'a Externs,
    pub functions: &'a Functions,
    pub maps: &'a Maps,
    /// How many instructions may still depend on types.
    pub type_relocations: Cell<usize>,
    /// What is left out of functions.
    pub notes: RefCell<Vec<String>>,
}

impl Relocator<'_> {
    /// Relocates a function.
    pub fn relocate(&self, function: &Function) -> Result<Relocated, ObjectError> {
        let section = &self.elf.sections[function.section];
        let octets = function.octets.start as usize..function.octets.end as usize;
        let instructions = section.data.get(octets).and_then(Instruction::decode_all);
        let Some(instructions) = instructions else {
            return Err(ObjectError::section(
                section.name,
                format!("function `{}` is outside", function.name),
            ));
        };
        let mut relocated = Relocated {
            instructions,
            references: Vec::new(),
        };
        self.relocate_types(function, &mut relocated.instructions)?;
        let mut relocations = section.relocations_in(function.octets.clone()).iter().peekable();
        let mut place = 0;
        while place < relocated.instructions.len() {
            let len = if relocated.instructions[place].is_wide() {
                2
            } else {
                1
            };
            let start = function.octets.start + (place * Instruction::LEN) as u64;
            let relocation = relocations.next_if(|relocation| relocation.offset == start);
            self.relocate_instruction(function, &mut relocated, place, relocation)
                .map_err(|problem| self.at(function, place, problem))?;
            // What is left in front of the next instruction belongs to none.
            let next = start + (len * Instruction::LEN) as u64;
            if let Some(lost) = relocations.next_if(|relocation| relocation.offset < next) {
                let problem = format!("a relocation at octet {} is of no instruction", lost.offset);
                return Err(self.at(function, place, problem));
            }
            place += len;
        }
        Ok(relocated)
    }

    fn relocate_types(
        &self,
        function: &Function,
        instructions: &mut [Instruction],
    ) -> Result<(), ObjectError> {
        let Some(btf) = &self.types.btf else { return Ok(()) };
        let records = self.types.relocations(function.section);
        for record in super::btf::extension::records_in(records, function.octets.clone()) {
            let Some(left) = self.type_relocations.get().checked_sub(1) else {
                return Err(ObjectError::section(
                    ".BTF.ext",
                    format!("more than {TYPE_RELOCATIONS_MAX} instructions depend on types (CO-RE)"),
                ));
            };
            self.type_relocations.set(left);
            let place = (u64::from(record.offset) - function.octets.start) as usize / Instruction::LEN;
            core_relocation::patch(btf, record, instructions, place)
                .map_err(|problem| self.at(function, place, problem))?;
        }
        Ok(())
    }

    fn relocate_instruction(
        &self,
        function: &Function,
        relocated: &mut Relocated,
        place: usize,
        relocation: Option<&Relocation>,
    ) -> Result<(), String> {
        let instruction = relocated.instructions[place];
        let Some(relocation) = relocation else {
            return self.relocate_without(function, relocated, place);
        };
        let symbol = &self.elf.symbols[relocation.symbol];
        match (relocation.kind, instruction) {
            (R_BPF_64_64, instruction) if instruction.is_wide() => {
                self.relocate_address(relocated, place, symbol)
            }
            (R_BPF_64_32, instruction) if instruction.opcode == opcode::CALL => {
                self.relocate_call(relocated, place, symbol)
            }
            (kind, _) => Err(format!(
                "relocation {kind} against `{}` is not one of this instruction",
                symbol.name
            )),
        }
    }

    /// An instruction without a relocation: what it names is a function of the same section, or nothing.
    fn relocate_without(
        &self,
        function: &Function,
        relocated: &mut Relocated,
        place: usize,
    ) -> Result<(), String> {
        let instruction = relocated.instructions[place];
        let is_call = instruction.opcode == opcode::CALL;
        match instruction.src {
            0 => Ok(()),
            pseudo::FUNCTION if instruction.is_wide() => {
                let target = behind(function.octets.start, place, instruction.imm);
                self.refer(relocated, place, function.section, target)
            }
            source if instruction.is_wide() => Err(format!(
                "lddw with source {source} names nothing: there is no relocation"
            )),
            pseudo::CALL if is_call => {
                let target = behind(function.octets.start, place, instruction.imm);
                self.refer(relocated, place, function.section, target)
            }
            _ if is_call => Err("it calls a kernel function (kfunc) without its name".into()),
            _ => Ok(()),
        }
    }

    /// `lddw` of a symbol's address.
    fn relocate_address(
        &self,
        relocated: &mut Relocated,
        place: usize,
        symbol: &Symbol<'_>,
    ) -> Result<(), String> {
        let addend = relocated.instructions[place].imm;
        let Some([first, second]) = relocated.instructions.get_mut(place..place + 2) else {
            return Err("lddw has no second half".into());
        };
        let Some(section) = symbol.section else {
            return match self.externs.find(symbol).map_err(|error| error.to_string())? {
                Found::Configuration(offset) => {
                    let address = self.maps.configuration(offset);
                    set(first, second, address.ok_or("the configuration is not a map")?);
                    Ok(())
                }
                Found::Nothing => {
                    (first.src, first.imm, second.imm) = (0, 0, 0);
                    Ok(())
                }
            };
        };
        let octet = i64::try_from(symbol.value)
            .unwrap_or(i64::MAX)
            .saturating_add(addend.into());
        if let Some(address) = self.maps.at(section, octet) {
            set(first, second, address);
            return Ok(());
        }
        let name = match symbol.name {
            "" => self.elf.sections[section].name,
            name => name,
        };
        if !self.elf.sections[section].is_code {
            return Err(format!(
                "the address of `{name}` in section `{}` is that of no map and no data",
                self.elf.sections[section].name
            ));
        }
        self.refer(relocated, place, section, octet)
    }

    /// A call of a symbol.
    fn relocate_call(
        &self,
        relocated: &mut Relocated,
        place: usize,
        symbol: &Symbol<'_>,
    ) -> Result<(), String> {
        let instruction = &mut relocated.instructions[place];
        let Some(section) = symbol.section else {
            let found = self.externs.find(symbol).map_err(|error| error.to_string())?;
            let Found::Nothing = found else {
                return Err(format!("`{}` is a value and cannot be called", symbol.name));
            };
            *instruction = MISSING;
            let text = format!(
                "kernel function `{}`, which does not exist here: a run that calls it without a test fails",
                symbol.name
            );
            note(&mut self.notes.borrow_mut(), text);
            return Ok(());
        };
        // The distance is that from the symbol: -1 is the symbol itself.
        let start = i64::try_from(symbol.value).unwrap_or(i64::MAX);
        let distance = (i64::from(instruction.imm) + 1) * Instruction::LEN as i64;
        instruction.src = pseudo::CALL;
        self.refer(relocated, place, section, start.saturating_add(distance))
    }

    /// Notes that an instruction leads to the function at an octet of a section.
    fn refer(
        &self,
        relocated: &mut Relocated,
        place: usize,
        section: usize,
        octet: i64,
    ) -> Result<(), String> {
        let function = u64::try_from(octet)
            .ok()
            .and_then(|octet| self.functions.at(section, octet));
        let Some(function) = function else {
            return Err(format!(
                "no function starts at octet {octet} of section `{}`",
                self.elf.sections[section].name
            ));
        };
        let instruction = &mut relocated.instructions[place];
        if instruction.is_wide() {
            instruction.src = pseudo::FUNCTION;
            match relocated.instructions.get_mut(place + 1) {
                Some(second) => second.imm = 0,
                None => return Err("lddw has no second half".into()),
            }
        }
        relocated.references.push(Reference {
            instruction: place,
            function,
        });
        Ok(())
    }

    fn at(&self, function: &Function, instruction: usize, problem: String) -> ObjectError {
        ObjectError::Instruction {
            section: self.elf.sections[function.section].name.into(),
            function: function.name.clone(),
            instruction,
            problem,
        }
    }
}

/// Has `lddw` name a map or an octet of its value.
fn set(first: &mut Instruction, second: &mut Instruction, address: Address) {
    (first.src, first.imm, second.imm) = match address {
        Address::Map(map) => (pseudo::MAP, map as i32, 0),
        Address::Value(map, offset) => (pseudo::MAP_VALUE, map as i32, offset as i32),
    };
}

/// The octet of a section to which a distance behind an instruction leads.
fn behind(start: u64, place: usize, distance: i32) -> i64 {
    let instruction = i64::try_from(start / Instruction::LEN as u64).unwrap_or(0) + place as i64;
    (instruction + 1 + i64::from(distance)) * Instruction::LEN as i64
}
