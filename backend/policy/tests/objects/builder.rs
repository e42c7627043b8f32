//! Writes object files, also such as no compiler does.

/// An object file to be.
#[derive(Debug, Default)]
pub struct Builder {
    sections: Vec<(String, u32, u64, Vec<u8>, u32, u32)>,
    symbols: Vec<u8>,
    names: Vec<u8>,
}

pub const CODE: u64 = 4;
pub const DATA: u64 = 3;
pub const FUNCTION: u8 = 2;
pub const OBJECT: u8 = 1;
pub const GLOBAL: u8 = 1 << 4;
pub const WEAK: u8 = 2 << 4;

const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const REL: u32 = 9;

impl Builder {
    /// A file with nothing but the symbol that is none.
    pub fn new() -> Builder {
        Builder {
            sections: Vec::new(),
            symbols: vec![0; 24],
            names: vec![0],
        }
    }

    /// A file with one program in a section.
    pub fn program(section: &str, instructions: &[[u8; 8]]) -> Builder {
        let mut builder = Builder::new();
        let code = builder.section(section, CODE, &instructions.concat());
        let len = instructions.len() as u64 * 8;
        builder.symbol("program", GLOBAL | FUNCTION, code, 0, len);
        builder
    }

    /// Adds a section, and returns its number.
    pub fn section(&mut self, name: &str, flags: u64, data: &[u8]) -> u16 {
        self.sections
            .push((name.into(), PROGBITS, flags, data.into(), 0, 0));
        self.sections.len() as u16
    }

    /// Adds a symbol, and returns its number.
    pub fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        let number = self.symbols.len() as u32 / 24;
        self.symbols.extend((self.names.len() as u32).to_le_bytes());
        self.symbols.extend([info, 0]);
        self.symbols.extend(section.to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
        self.names.extend(name.as_bytes());
        self.names.push(0);
        number
    }

    /// Adds the relocations of a section: offset, kind, symbol.
    pub fn relocations(&mut self, section: u16, relocations: &[(u64, u32, u32)]) {
        let data = relocations
            .iter()
            .flat_map(|(offset, kind, symbol)| {
                [*offset, u64::from(*symbol) << 32 | u64::from(*kind)].map(u64::to_le_bytes)
            })
            .collect::<Vec<_>>()
            .concat();
        self.sections
            .push((".rel".into(), REL, 0, data, 0, section.into()));
    }

    /// The octets of the file.
    pub fn finish(mut self) -> Vec<u8> {
        let strings = self.sections.len() as u32 + 2;
        self.sections
            .push((".symtab".into(), SYMTAB, 0, self.symbols, strings, 1));
        self.sections
            .push((".strtab".into(), STRTAB, 0, self.names, 0, 0));
        let mut names = vec![0];
        let mut headers = vec![0; 64];
        let mut file = vec![0; 64];
        self.sections
            .push((".shstrtab".into(), STRTAB, 0, Vec::new(), 0, 0));
        let count = self.sections.len();
        for (index, (name, kind, flags, mut data, link, info)) in self.sections.into_iter().enumerate() {
            headers.extend((names.len() as u32).to_le_bytes());
            names.extend(name.as_bytes());
            names.push(0);
            if index + 1 == count {
                data.clone_from(&names);
            }
            headers.extend(kind.to_le_bytes());
            for number in [flags, 0, file.len() as u64, data.len() as u64] {
                headers.extend(number.to_le_bytes());
            }
            headers.extend(link.to_le_bytes());
            headers.extend(info.to_le_bytes());
            headers.extend([0; 16]);
            file.extend(data);
        }
        let table = file.len() as u64;
        file[..20].copy_from_slice(&[
            0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 247, 0,
        ]);
        file[20] = 1;
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[52] = 64;
        file[58] = 64;
        file[60..62].copy_from_slice(&(count as u16 + 1).to_le_bytes());
        file[62..64].copy_from_slice(&(count as u16).to_le_bytes());
        file.extend(headers);
        file
    }
}

/// The octets of an instruction.
pub fn instruction(opcode: u8, dst: u8, src: u8, imm: i32) -> [u8; 8] {
    let [a, b, c, d] = imm.to_le_bytes();
    [opcode, src << 4 | dst, 0, 0, a, b, c, d]
}

/// The octets of a `.BTF` section of types whose words are given; the strings begin with a zero.
pub fn btf(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let len = types.len() as u32 * 4;
    let mut octets = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, len, len, strings.len() as u32].iter().chain(types) {
        octets.extend(word.to_le_bytes());
    }
    octets.extend(strings);
    octets
}
