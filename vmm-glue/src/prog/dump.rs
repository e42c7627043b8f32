//! `prog dump`: instructions and native code, as `bpftool prog dump` prints them.

use netkit_api::DumpLine;
use serde_json::{Map, Value, json};
use vmm_glue::Client;

use super::stray;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::files;
use crate::names::ProgramName;
use crate::octets::{answered_hex, listed, spaced};
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, once};

/// `prog dump {xlated | jited} PROG [opcodes] [linum] [file F]`
#[derive(Debug, PartialEq, Eq)]
pub struct Dump {
    pub code: Code,
    pub program: ProgramName,
    pub opcodes: bool,
    pub line_numbers: bool,
    pub file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Instructions,
    Native,
}

/// `filter.c:12: text`
struct Source<'a> {
    file: &'a str,
    line: u64,
    text: &'a str,
}

impl Dump {
    pub fn parse(words: &mut Words<'_>) -> Result<Dump, UsageError> {
        let word = words.value()?;
        let code = match word {
            _ if abbreviates(word, "jited") => Code::Native,
            _ if abbreviates(word, "xlated") => Code::Instructions,
            "help" => return Err(stray(word)),
            _ => return Err(UsageError::invalid(word, "expected \"xlated\" or \"jited\"")),
        };
        let mut dump = Dump {
            code,
            program: ProgramName::parse(words)?,
            opcodes: false,
            line_numbers: false,
            file: None,
        };
        while let Some(word) = words.next() {
            match word {
                _ if abbreviates(word, "file") => {
                    let value = words.value()?;
                    once(&mut dump.file, "file", value, value.to_owned())?;
                }
                _ if abbreviates(word, "opcodes") => dump.opcodes = true,
                _ if abbreviates(word, "linum") => dump.line_numbers = true,
                "visual" => {
                    return Err(UsageError::NotSupported {
                        word: word.into(),
                        instead: "instructions are only listed.",
                    });
                }
                _ => return Err(stray(word)),
            }
        }
        if dump.file.is_some() && (dump.opcodes || dump.line_numbers) {
            let why = "\"file\" is not compatible with \"opcodes\" or \"linum\"";
            return Err(UsageError::invalid("file", why));
        }
        Ok(dump)
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let program = self.program.to_request();
        let lines = match self.code {
            Code::Instructions => client.xlated(&program)?,
            Code::Native => client.jited(&program)?,
        };
        if let Some(path) = &self.file {
            let octets: Result<Vec<_>, _> = lines.iter().map(|line| answered_hex(&line.octets)).collect();
            files::write(path, &octets?.concat())?;
            return Ok(Output::nothing());
        }
        match (options.json, self.code) {
            (true, Code::Instructions) => Output::json(&self.instructions_json(&lines)?, options),
            (true, Code::Native) => Output::json(&self.native_json(&lines)?, options),
            (false, _) => Ok(Output::text(self.text(&lines)?)),
        }
    }

    fn text(&self, lines: &[DumpLine]) -> Result<String, Error> {
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            if let Some(function) = &line.function {
                let gap = if index > 0 && self.code == Code::Native {
                    "\n"
                } else {
                    ""
                };
                text += &format!("{gap}{function}:\n");
            }
            if let Some(source) = &line.source {
                text += &format!("; {}\n", self.source_text(source));
            }
            text += &match self.code {
                Code::Instructions => format!("{:4}: {}\n", line.at, line.text),
                Code::Native => format!("{:4x}:\t{}\n", line.at, line.text),
            };
            if self.opcodes {
                let octets = answered_hex(&line.octets)?;
                let indent = match self.code {
                    Code::Instructions => "       ",
                    Code::Native => "\t",
                };
                // The two halves of a wide instruction stand on one line.
                let halves: Vec<String> = octets.chunks(8).map(spaced).collect();
                text += &format!("{indent}{}\n", halves.join(" "));
            }
        }
        Ok(text)
    }

    fn source_text(&self, source: &str) -> String {
        match Source::parse(source) {
            Some(Source { file, line, text }) if self.line_numbers => {
                format!("{text} [file:{file} line_num:{line}]")
            }
            Some(Source { text, .. }) => text.into(),
            None => source.into(),
        }
    }

    fn instructions_json(&self, lines: &[DumpLine]) -> Result<Vec<Value>, Error> {
        let instruction = |line: &DumpLine| {
            let mut object = Map::new();
            if let Some(function) = &line.function {
                object.insert("proto".into(), json!(function));
            }
            self.source_json(line, &mut object);
            object.insert("disasm".into(), json!(line.text));
            if self.opcodes {
                object.insert("opcodes".into(), fields(&answered_hex(&line.octets)?));
            }
            Ok(Value::Object(object))
        };
        lines.iter().map(instruction).collect()
    }

    /// Functions, each with its instructions.
    fn native_json(&self, lines: &[DumpLine]) -> Result<Vec<Value>, Error> {
        let mut functions: Vec<(&str, Vec<Value>)> = Vec::new();
        for line in lines {
            if let Some(name) = line.function.as_deref() {
                functions.push((name, Vec::new()));
            }
            let mut object = Map::new();
            self.source_json(line, &mut object);
            object.insert("pc".into(), json!(format!("{:#x}", line.at)));
            let (operation, operands) = line.text.split_once(' ').unwrap_or((&line.text, ""));
            let operands: Vec<Value> = match operands.trim() {
                "" => vec![Value::Null],
                operands => operands.split(',').map(|operand| json!(operand.trim())).collect(),
            };
            object.insert("operation".into(), json!(operation));
            object.insert("operands".into(), json!(operands));
            if self.opcodes {
                object.insert("opcodes".into(), json!(listed(&answered_hex(&line.octets)?)));
            }
            if functions.is_empty() {
                functions.push(("", Vec::new()));
            }
            if let Some((_, instructions)) = functions.last_mut() {
                instructions.push(Value::Object(object));
            }
        }
        let function = |(name, instructions)| json!({"name": name, "insns": instructions});
        Ok(functions.into_iter().map(function).collect())
    }

    fn source_json(&self, line: &DumpLine, object: &mut Map<String, Value>) {
        let Some(source) = &line.source else { return };
        match Source::parse(source) {
            Some(Source { file, line, text }) => {
                object.insert("src".into(), json!(text));
                if self.line_numbers {
                    object.insert("file".into(), json!(file));
                    object.insert("line_num".into(), json!(line));
                }
            }
            None => {
                object.insert("src".into(), json!(source));
            }
        }
    }
}

impl Source<'_> {
    fn parse(source: &str) -> Option<Source<'_>> {
        let (place, text) = source.split_once(": ")?;
        let (file, line) = place.rsplit_once(':')?;
        Some(Source {
            file,
            line: line.parse().ok()?,
            text: text.trim_start(),
        })
    }
}

/// The parts of an instruction. RFC 9669, 3.
fn fields(octets: &[u8]) -> Value {
    let registers = octets.get(1).copied().unwrap_or_default();
    json!({
        "code": format!("{:#04x}", octets.first().copied().unwrap_or_default()),
        "src_reg": format!("{:#x}", registers >> 4),
        "dst_reg": format!("{:#x}", registers & 15),
        "off": listed(octets.get(2..4).unwrap_or_default()),
        "imm": listed(octets.get(4..).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::refusal;
    use crate::prog::Command;
    use crate::prog::tests::prog;

    fn dump(line: &str) -> Dump {
        match prog(line) {
            Command::Dump(dump) => dump,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn line(at: u64, function: Option<&str>, source: Option<&str>, text: &str, octets: &str) -> DumpLine {
        DumpLine {
            at,
            function: function.map(Into::into),
            source: source.map(Into::into),
            text: text.into(),
            octets: octets.into(),
        }
    }

    fn instructions() -> Vec<DumpLine> {
        vec![
            line(
                0,
                Some("filter"),
                Some("filter.c:12: \treturn 0;"),
                "(b7) r0 = 0",
                "b700000000000000",
            ),
            line(
                1,
                None,
                None,
                "(18) r1 = map[id:3]",
                "18110000030000000000000000000000",
            ),
            line(3, Some("count"), None, "(95) exit", "9500000000000000"),
        ]
    }

    fn native() -> Vec<DumpLine> {
        vec![
            line(0, Some("filter"), Some("f.c:3: x"), "mov eax, 0x10", "b810000000"),
            line(16, Some("count"), None, "ret", "c3"),
        ]
    }

    #[test]
    fn words_are_bpftools() {
        let plain = dump("prog dump xlated id 7");
        assert_eq!((plain.code, plain.opcodes), (Code::Instructions, false));
        assert_eq!(plain.program, ProgramName::Id(7));
        let full = dump("prog dump j filter op linum");
        assert!(full.opcodes && full.line_numbers && full.code == Code::Native);
        assert_eq!(dump("prog dump x 7 file /tmp/x").file.as_deref(), Some("/tmp/x"));
        let cases = [
            (
                "prog dump both 7",
                "Error: argument \"both\" is wrong: expected \"xlated\" or \"jited\"",
            ),
            (
                "prog dump xlated",
                "Not enough information: \"PROG\" argument is required.",
            ),
            (
                "prog dump xlated 7 file",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "prog dump xlated 7 file f opcodes",
                "Error: argument \"file\" is wrong: \"file\" is not compatible with \"opcodes\" or \"linum\"",
            ),
            (
                "prog dump xlated 7 visual",
                "Error: \"visual\" is not supported: instructions are only listed.",
            ),
            (
                "prog dump xlated 7 x",
                "Garbage instead of arguments \"x ...\". Try \"nkctl prog help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn instructions_are_listed_as_bpftool_lists_them() {
        assert_eq!(
            dump("prog dump xlated 7").text(&instructions()).expect("hex"),
            "\
filter:
; return 0;
   0: (b7) r0 = 0
   1: (18) r1 = map[id:3]
count:
   3: (95) exit
"
        );
        let full = dump("prog dump xlated 7 opcodes linum");
        assert_eq!(
            full.text(&instructions()[..2]).expect("hex"),
            "\
filter:
; return 0; [file:filter.c line_num:12]
   0: (b7) r0 = 0
       b7 00 00 00 00 00 00 00
   1: (18) r1 = map[id:3]
       18 11 00 00 03 00 00 00 00 00 00 00 00 00 00 00
"
        );
        let json = full.instructions_json(&instructions()[..1]).expect("hex");
        assert_eq!(
            serde_json::to_string(&json).expect("JSON"),
            "[{\"proto\":\"filter\",\"src\":\"return 0;\",\"file\":\"filter.c\",\"line_num\":12,\
             \"disasm\":\"(b7) r0 = 0\",\"opcodes\":{\"code\":\"0xb7\",\"src_reg\":\"0x0\",\"dst_reg\":\"0x0\",\
             \"off\":[\"0x00\",\"0x00\"],\"imm\":[\"0x00\",\"0x00\",\"0x00\",\"0x00\"]}}]"
        );
    }

    #[test]
    fn native_code_is_listed_by_function() {
        let full = dump("prog dump jited 7 opcodes");
        assert_eq!(
            full.text(&native()).expect("hex"),
            "\
filter:
; x
   0:\tmov eax, 0x10
\tb8 10 00 00 00

count:
  10:\tret
\tc3
"
        );
        assert_eq!(
            json!(full.native_json(&native()).expect("hex")),
            json!([
                {"name": "filter", "insns": [{
                    "src": "x", "pc": "0x0", "operation": "mov", "operands": ["eax", "0x10"],
                    "opcodes": ["0xb8", "0x10", "0x00", "0x00", "0x00"],
                }]},
                {"name": "count", "insns": [{
                    "pc": "0x10", "operation": "ret", "operands": [null], "opcodes": ["0xc3"],
                }]},
            ])
        );
    }
}
