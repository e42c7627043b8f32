//! The ELF file: its sections, symbols and relocations, with every number in them checked.

use std::collections::HashMap;

use object::elf::{
    EM_BPF, ET_REL, FileHeader64, R_BPF_NONE, Rel64, Rela64, SHF_EXECINSTR, SHN_LORESERVE, SHT_NOBITS,
    SHT_REL, SHT_RELA, SHT_SYMTAB, STB_LOCAL, STB_WEAK, STT_FUNC, STT_NOTYPE, STT_OBJECT, SectionHeader64,
    Sym64,
};
use object::read::elf::{FileHeader, Sym};
use object::{LittleEndian, pod};

use super::ObjectError;

/// Octets of the largest file that is read.
const FILE_MAX: usize = 64 << 20;
/// The most sections.
const SECTIONS_MAX: usize = 4096;
/// The most symbols.
const SYMBOLS_MAX: usize = 1 << 18;
/// Octets of the longest name.
const NAME_MAX: usize = 1024;

const LE: LittleEndian = LittleEndian;

/// A relocatable file for BPF. Sections and symbols have the numbers that the file gives them.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    pub sections: Vec<Section<'a>>,
    pub symbols: Vec<Symbol<'a>>,
    /// Sections by name, the first of each name.
    names: HashMap<&'a str, usize>,
}

/// A section.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub name: &'a str,
    /// What it holds in the file: nothing for `.bss`.
    pub data: &'a [u8],
    /// Octets that it has in memory.
    pub size: u64,
    /// Whether it holds instructions.
    pub is_code: bool,
    /// What the linker fills in, ascending by offset.
    pub relocations: Vec<Relocation>,
    kind: u32,
}

/// A symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol<'a> {
    pub name: &'a str,
    /// The section that it is in; None if it is in another file, or in none.
    pub section: Option<usize>,
    /// The offset in the section.
    pub value: u64,
    /// Octets.
    pub size: u64,
    pub kind: SymbolKind,
    /// Whether it can be seen in this file alone.
    pub is_local: bool,
    /// Whether it may be missing.
    pub is_weak: bool,
}

/// What a symbol stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SymbolKind {
    Function,
    Object,
    Untyped,
    Other,
}

/// A place in a section that depends on a symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relocation {
    pub offset: u64,
    /// `R_BPF_*`.
    pub kind: u32,
    pub symbol: usize,
}

impl<'a> Elf<'a> {
    /// Reads a file.
    pub fn parse(file: &'a [u8]) -> Result<Elf<'a>, ObjectError> {
        if file.len() > FILE_MAX {
            return Err(refuse(format!(
                "it has {} octets, and at most {FILE_MAX} are read",
                file.len()
            )));
        }
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(not_elf)?;
        if !header.is_little_endian() {
            return Err(refuse(
                "it is not little-endian: compile with clang -target bpfel",
            ));
        }
        if header.e_machine(LE) != EM_BPF {
            let machine = header.e_machine(LE);
            return Err(refuse(format!(
                "it is for ELF machine {machine}, not for BPF: compile with clang -target bpf"
            )));
        }
        if header.e_type(LE) != ET_REL {
            return Err(refuse("it is not relocatable: compile with clang -c"));
        }
        let headers = header.section_headers(LE, file).map_err(not_elf)?;
        if headers.len() > SECTIONS_MAX {
            return Err(refuse(format!("it has more than {SECTIONS_MAX} sections")));
        }
        let strings = header.shstrndx(LE, file).map_err(not_elf)?;
        let strings = headers
            .get(strings as usize)
            .ok_or_else(|| refuse("it has no section names"))?;
        let strings = contents(file, strings)?;
        let mut sections = headers
            .iter()
            .map(|header| Section::parse(file, header, strings))
            .collect::<Result<Vec<_>, _>>()?;
        // Sections of a compiler's making never overlap, and this bounds all work on them.
        let total = sections.iter().map(|section| section.data.len()).sum::<usize>();
        if total > file.len() {
            return Err(refuse("its sections overlap"));
        }
        let symbols = parse_symbols(headers, &sections)?;
        parse_relocations(headers, &mut sections, symbols.len())?;
        let mut names = HashMap::new();
        for (index, section) in sections.iter().enumerate() {
            names.entry(section.name).or_insert(index);
        }
        Ok(Elf {
            sections,
            symbols,
            names,
        })
    }

    /// The number of a section.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// A section.
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.get(self.find(name)?)
    }

    /// The symbols of a section.
    pub fn symbols_of(&self, section: usize) -> impl Iterator<Item = &Symbol<'a>> {
        self.symbols
            .iter()
            .filter(move |symbol| symbol.section == Some(section))
    }
}

impl<'a> Section<'a> {
    fn parse(
        file: &'a [u8],
        header: &SectionHeader64<LittleEndian>,
        strings: &'a [u8],
    ) -> Result<Section<'a>, ObjectError> {
        Ok(Section {
            name: name(strings, header.sh_name.get(LE))?,
            data: contents(file, header)?,
            size: header.sh_size.get(LE),
            is_code: header.sh_flags.get(LE) & u64::from(SHF_EXECINSTR) != 0,
            relocations: Vec::new(),
            kind: header.sh_type.get(LE),
        })
    }

    /// Whether it is all zeros, and not in the file.
    pub fn is_zeroed(&self) -> bool {
        self.kind == SHT_NOBITS
    }

    /// The relocations of some of its octets.
    pub fn relocations_in(&self, octets: std::ops::Range<u64>) -> &[Relocation] {
        let before = |offset| self.relocations.partition_point(|r| r.offset < offset);
        self.relocations
            .get(before(octets.start)..before(octets.end))
            .unwrap_or_default()
    }
}

fn parse_symbols<'a>(
    headers: &[SectionHeader64<LittleEndian>],
    sections: &[Section<'a>],
) -> Result<Vec<Symbol<'a>>, ObjectError> {
    let Some(table) = sections.iter().position(|section| section.kind == SHT_SYMTAB) else {
        return Err(refuse(
            "it has no symbols: do not strip it (llvm-strip -g is fine)",
        ));
    };
    let strings = headers[table].sh_link.get(LE) as usize;
    let strings = sections
        .get(strings)
        .ok_or_else(|| refuse("its symbols have no names"))?;
    let (symbols, _) = pod::slice_from_bytes::<Sym64<LittleEndian>>(
        sections[table].data,
        sections[table].data.len() / size_of::<Sym64<LittleEndian>>(),
    )
    .map_err(|()| refuse("its symbol table cannot be read"))?;
    if symbols.len() > SYMBOLS_MAX {
        return Err(refuse(format!("it has more than {SYMBOLS_MAX} symbols")));
    }
    let symbol = |symbol: &Sym64<LittleEndian>| {
        let place = symbol.st_shndx(LE);
        let section = (place != 0 && place < SHN_LORESERVE).then_some(usize::from(place));
        if section.is_some_and(|section| section >= sections.len()) {
            return Err(refuse("a symbol is in a section that does not exist"));
        }
        Ok(Symbol {
            name: name(strings.data, symbol.st_name(LE))?,
            section,
            value: symbol.st_value(LE),
            size: symbol.st_size(LE),
            kind: match symbol.st_type() {
                STT_FUNC => SymbolKind::Function,
                STT_OBJECT => SymbolKind::Object,
                STT_NOTYPE => SymbolKind::Untyped,
                _ => SymbolKind::Other,
            },
            is_local: symbol.st_bind() == STB_LOCAL,
            is_weak: symbol.st_bind() == STB_WEAK,
        })
    };
    symbols.iter().map(symbol).collect()
}

fn parse_relocations(
    headers: &[SectionHeader64<LittleEndian>],
    sections: &mut [Section<'_>],
    symbols: usize,
) -> Result<(), ObjectError> {
    for (index, header) in headers.iter().enumerate() {
        let target = header.sh_info.get(LE) as usize;
        let Some(name) = sections.get(target).map(|section| section.name) else {
            continue;
        };
        // Debug information of other kinds is not used, and has most of the relocations.
        if name.starts_with(".debug") || name == ".BTF.ext" || name == ".eh_frame" {
            continue;
        }
        let data = sections[index].data;
        let mut relocations = match sections[index].kind {
            SHT_REL => records::<Rel64<LittleEndian>>(data)?
                .iter()
                .map(|r| relocation(r.r_offset.get(LE), r.r_info.get(LE)))
                .collect::<Vec<_>>(),
            // BPF has no addends outside instructions; refusing them beats ignoring them.
            SHT_RELA if !records::<Rela64<LittleEndian>>(data)?.is_empty() => {
                return Err(ObjectError::section(
                    name,
                    "relocations with addends (SHT_RELA) are not BPF's",
                ));
            }
            _ => continue,
        };
        relocations.retain(|relocation| relocation.kind != R_BPF_NONE);
        if relocations.iter().any(|relocation| relocation.symbol >= symbols) {
            return Err(ObjectError::section(
                name,
                "a relocation refers to a symbol that does not exist",
            ));
        }
        if !sections[target].relocations.is_empty() {
            return Err(ObjectError::section(name, "it has two sections of relocations"));
        }
        relocations.sort_by_key(|relocation| relocation.offset);
        sections[target].relocations = relocations;
    }
    Ok(())
}

fn relocation(offset: u64, info: u64) -> Relocation {
    Relocation {
        offset,
        kind: info as u32,
        symbol: (info >> 32) as usize,
    }
}

fn records<T: pod::Pod>(data: &[u8]) -> Result<&[T], ObjectError> {
    match pod::slice_from_bytes(data, data.len() / size_of::<T>()) {
        Ok((records, _)) => Ok(records),
        Err(()) => Err(refuse("its relocations cannot be read")),
    }
}

/// What a section holds in the file.
fn contents<'a>(file: &'a [u8], header: &SectionHeader64<LittleEndian>) -> Result<&'a [u8], ObjectError> {
    if matches!(header.sh_type.get(LE), SHT_NOBITS | 0) {
        return Ok(&[]);
    }
    let start = usize::try_from(header.sh_offset.get(LE)).ok();
    let len = usize::try_from(header.sh_size.get(LE)).ok();
    start
        .zip(len)
        .and_then(|(start, len)| file.get(start..start.checked_add(len)?))
        .ok_or_else(|| refuse("it is cut short: a section lies behind its end"))
}

/// A name in a string table.
fn name(strings: &[u8], offset: u32) -> Result<&str, ObjectError> {
    let rest = strings.get(offset as usize..).unwrap_or_default();
    if offset == 0 || rest.is_empty() {
        return Ok("");
    }
    let rest = rest.get(..NAME_MAX).unwrap_or(rest);
    let end = rest.iter().position(|octet| *octet == 0);
    end.and_then(|end| std::str::from_utf8(&rest[..end]).ok())
        .ok_or_else(|| refuse("it has a name that is not text, or too long"))
}

fn not_elf(error: object::read::Error) -> ObjectError {
    refuse(format!(
        "{error} (an ELF file from clang -target bpf -c is expected)"
    ))
}

fn refuse(problem: impl Into<String>) -> ObjectError {
    ObjectError::File(problem.into())
}
