//! A value as its type shows it, and the two ways in which bpftool writes it.

use std::fmt::Write;

/// A value, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number with a sign.
    Int(i64),
    /// A number without.
    Uint(u64),
    /// Bits that are no whole number of octets, or more than 64: shown in hexadecimal.
    Bits(u128),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A character.
    Char(u8),
    /// A pointer.
    Pointer(u64),
    /// An array of characters that ends with a zero, or a name of an enumeration.
    String(String),
    /// Elements.
    Array(Vec<Value>),
    /// Members.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The value as `bpftool -j map dump` has it under `formatted`: on one line.
    pub fn to_json(&self) -> String {
        let mut writer = Writer::default();
        writer.value(self);
        writer.out
    }

    /// The value as `bpftool map dump` has it: with indentation, the first line at `depth` levels.
    pub fn to_text(&self, depth: usize) -> String {
        let mut writer = Writer {
            out: String::new(),
            is_text: true,
            depth,
        };
        writer.value(self);
        writer.out
    }
}

/// Writes as bpftool does (tools/bpf/bpftool/json_writer.c): a line for each member, none for elements.
#[derive(Default)]
struct Writer {
    out: String,
    is_text: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Int(number) => self.show(number),
            Value::Uint(number) => self.show(number),
            Value::Bits(bits) if self.is_text => self.show(format_args!("{bits:#x}")),
            Value::Bits(bits) => self.show(format_args!("\"{bits:#x}\"")),
            // JSON has no other numbers.
            Value::Float(number) if number.is_finite() => self.show(number),
            Value::Float(number) => self.show(format_args!("\"{number}\"")),
            Value::Bool(truth) => self.show(truth),
            Value::Char(octet @ 0x20..=0x7e) => self.string(char::from(*octet).encode_utf8(&mut [0; 4])),
            Value::Char(octet) if self.is_text => self.show(format_args!("{octet:#x}")),
            Value::Char(octet) => self.show(format_args!("\"\\u00{octet:02x}\"")),
            Value::Pointer(0) if self.is_text => self.out.push_str("\"(nil)\""),
            Value::Pointer(address) if self.is_text => self.show(format_args!("\"{address:#x}\"")),
            Value::Pointer(address) => self.show(address),
            Value::String(text) => self.string(text),
            Value::Array(elements) => self.array(elements),
            Value::Object(members) => self.object(members),
        }
    }

    fn show(&mut self, what: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.out, "{what}");
    }

    fn array(&mut self, elements: &[Value]) {
        self.out.push('[');
        self.depth += 1;
        for (place, element) in elements.iter().enumerate() {
            if place > 0 {
                self.out.push(',');
            }
            self.value(element);
        }
        self.depth -= 1;
        if !elements.is_empty() {
            self.line();
        }
        self.out.push(']');
    }

    fn object(&mut self, members: &[(String, Value)]) {
        self.out.push('{');
        self.depth += 1;
        for (place, (name, value)) in members.iter().enumerate() {
            if place > 0 {
                self.out.push(',');
            }
            self.line();
            self.string(name);
            self.out.push_str(if self.is_text { ": " } else { ":" });
            self.value(value);
        }
        self.depth -= 1;
        if !members.is_empty() {
            self.line();
        }
        self.out.push('}');
    }

    fn line(&mut self) {
        if self.is_text {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("    ", self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\0'..='\x1f' => self.show(format_args!("\\u{:04x}", letter as u32)),
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}
