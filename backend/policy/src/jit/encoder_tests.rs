//! Each form is what an independent decoder says it is.

use super::*;
use crate::jit::compiled::disassemble;

const ALL: [Register; 16] = {
    use Register::*;
    [
        Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
    ]
};
const SIZES: [Size; 4] = [Size::Byte, Size::Word, Size::Dword, Size::Qword];
const WIDE: [Size; 2] = [Size::Dword, Size::Qword];
const OPERATIONS: [(Arithmetic, &str); 6] = [
    (Arithmetic::Add, "add"),
    (Arithmetic::Or, "or"),
    (Arithmetic::And, "and"),
    (Arithmetic::Sub, "sub"),
    (Arithmetic::Xor, "xor"),
    (Arithmetic::Cmp, "cmp"),
];

fn name(register: Register, size: Size) -> String {
    let old = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    match (old.get(register as usize), size) {
        (Some(old), Size::Qword) => format!("r{old}"),
        (Some(old), Size::Dword) => format!("e{old}"),
        (Some(old), Size::Word) => old.to_string(),
        (Some(old), Size::Byte) => format!("{}l", old.trim_end_matches('x')),
        (None, _) => {
            let suffix = ["b", "w", "d", ""][size as usize];
            format!("r{}{suffix}", register as u8)
        }
    }
}

fn check(expected: &str, emit: impl FnOnce(&mut Assembler)) {
    let mut assembler = Assembler::default();
    emit(&mut assembler);
    let code = assembler.finish().unwrap();
    let lines = disassemble(&code);
    let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [expected], "{code:02x?}");
}

fn memories() -> Vec<(Memory, String)> {
    let window = |index, displacement: i16, text: &str| (Memory::Window { index, displacement }, text.into());
    vec![
        window(Register::R11, 0, "[r12+r11]"),
        window(Register::R11, 1, "[r12+r11+1]"),
        window(Register::R11, -128, "[r12+r11-80h]"),
        window(Register::R11, 128, "[r12+r11+80h]"),
        window(Register::R11, i16::MIN, "[r12+r11-8000h]"),
        window(Register::R11, i16::MAX, "[r12+r11+7FFFh]"),
        window(Register::Rbp, 0, "[r12+rbp]"),
        window(Register::Rbp, -512, "[r12+rbp-200h]"),
        window(Register::Rbp, -8, "[r12+rbp-8]"),
        (Memory::Machine(8), "[rdi+8]".into()),
        (Memory::Machine(56), "[rdi+38h]".into()),
        (Memory::Top, "[rsp]".into()),
    ]
}

fn pointer(size: Size) -> &'static str {
    ["byte ptr ", "word ptr ", "dword ptr ", "qword ptr "][size as usize]
}

#[test]
fn two_registers() {
    for (a, b) in ALL.iter().flat_map(|a| ALL.map(|b| (*a, b))) {
        for size in WIDE {
            let names = format!("{}, {}", name(a, size), name(b, size));
            for (operation, mnemonic) in OPERATIONS {
                check(&format!("{mnemonic} {names}"), |x| {
                    x.arithmetic(operation, size, a, b)
                });
            }
            check(&format!("mov {names}"), |x| x.mov(size, a, b));
            check(&format!("test {names}"), |x| x.test(size, a, b));
            check(&format!("imul {names}"), |x| x.multiply(size, a, b));
            let factors = if a == b { name(a, size) } else { names.clone() };
            check(&format!("imul {factors}, 12345678h"), |x| {
                x.multiply_immediate(size, a, b, 0x1234_5678);
            });
            let exchange = disassemble(&{
                let mut x = Assembler::default();
                x.exchange(size, a, b);
                x.finish().unwrap()
            });
            assert_eq!(exchange[0].1, format!("xchg {names}"));
            for (shift, mnemonic) in [(Shift::Shl, "shlx"), (Shift::Shr, "shrx"), (Shift::Sar, "sarx")] {
                let text = format!(
                    "{mnemonic} {}, {}, {}",
                    name(a, size),
                    name(a, size),
                    name(b, size)
                );
                check(&text, |x| x.shift_by(shift, size, a, b));
            }
            for (from, mnemonic) in [(Size::Byte, "movsx"), (Size::Word, "movsx")] {
                check(&format!("{mnemonic} {}, {}", name(a, size), name(b, from)), |x| {
                    x.sign_extend(from, size, a, b);
                });
            }
        }
        let dword = Size::Dword;
        check(
            &format!("movsxd {}, {}", name(a, Size::Qword), name(b, dword)),
            |x| {
                x.sign_extend(dword, Size::Qword, a, b);
            },
        );
        for from in [Size::Byte, Size::Word] {
            check(&format!("movzx {}, {}", name(a, dword), name(b, from)), |x| {
                x.zero_extend(from, a, b);
            });
        }
        check(&format!("mov {}, {}", name(a, dword), name(b, dword)), |x| {
            x.zero_extend(dword, a, b);
        });
    }
}

#[test]
fn one_register() {
    for a in ALL {
        for size in WIDE {
            let text = name(a, size);
            for (operation, mnemonic) in OPERATIONS {
                check(&format!("{mnemonic} {text}, 7Fh"), |x| {
                    x.arithmetic_immediate(operation, size, a, 0x7f);
                });
                check(&format!("{mnemonic} {text}, 12345678h"), |x| {
                    x.arithmetic_immediate(operation, size, a, 0x1234_5678);
                });
            }
            check(&format!("test {text}, 7"), |x| x.test_immediate(size, a, 7));
            for (operation, mnemonic) in [(Unary::Neg, "neg"), (Unary::Div, "div"), (Unary::Idiv, "idiv")] {
                check(&format!("{mnemonic} {text}"), |x| x.unary(operation, size, a));
            }
            for (shift, mnemonic) in [(Shift::Shl, "shl"), (Shift::Shr, "shr"), (Shift::Sar, "sar")] {
                check(&format!("{mnemonic} {text}, 5"), |x| {
                    x.shift_immediate(shift, size, a, 5);
                });
                check(&format!("{mnemonic} {text}, cl"), |x| {
                    x.shift_by_cl(shift, size, a);
                });
            }
            check(&format!("bswap {text}"), |x| x.swap_octets(size, a));
        }
        check(&format!("rol {}, 8", name(a, Size::Word)), |x| {
            x.shift_immediate(Shift::Rol, Size::Word, a, 8);
        });
        let (dword, qword) = (name(a, Size::Dword), name(a, Size::Qword));
        check(&format!("xor {dword}, {dword}"), |x| x.mov_immediate(a, 0));
        check(&format!("mov {dword}, 80000000h"), |x| {
            x.mov_immediate(a, 0x8000_0000);
        });
        check(&format!("mov {qword}, 0FFFFFFFFFFFFFFFEh"), |x| {
            x.mov_immediate(a, -2_i64 as u64);
        });
        check(&format!("mov {qword}, 123456789ABCDEF0h"), |x| {
            x.mov_immediate(a, 0x1234_5678_9abc_def0);
        });
        check(&format!("mov {qword}, 1"), |x| x.mov_address(a, 1));
        check(&format!("push {qword}"), |x| x.push(a));
        check(&format!("pop {qword}"), |x| x.pop(a));
    }
    for base in [Register::R11, Register::Rbp, Register::Rax, Register::R13] {
        check(&format!("lea r10, [{}-8]", name(base, Size::Qword)), |x| {
            x.add_address(base, -8);
        });
    }
}

#[test]
fn memory() {
    for (memory, text) in memories() {
        for a in ALL {
            for size in SIZES {
                let (register, place) = (name(a, size), text.as_str());
                check(&format!("mov {place}, {register}"), |x| x.mov(size, memory, a));
                if matches!(size, Size::Byte | Size::Word) {
                    let place = format!("{}{text}", pointer(size));
                    check(&format!("movzx {}, {place}", name(a, Size::Dword)), |x| {
                        x.load(size, a, memory);
                    });
                    for to in WIDE {
                        check(&format!("movsx {}, {place}", name(a, to)), |x| {
                            x.sign_extend(size, to, a, memory);
                        });
                    }
                    continue;
                }
                check(&format!("mov {register}, {place}"), |x| x.load(size, a, memory));
                check(&format!("xchg {place}, {register}"), |x| {
                    x.exchange(size, memory, a);
                });
                check(&format!("lock xadd {place}, {register}"), |x| {
                    x.exchange_add(size, memory, a);
                });
                check(&format!("lock cmpxchg {place}, {register}"), |x| {
                    x.compare_exchange(size, memory, a);
                });
                for (operation, mnemonic) in OPERATIONS {
                    check(&format!("{mnemonic} {register}, {place}"), |x| {
                        x.arithmetic_load(operation, size, a, memory);
                    });
                    if operation != Arithmetic::Cmp {
                        check(&format!("lock {mnemonic} {place}, {register}"), |x| {
                            x.arithmetic_locked(operation, size, memory, a);
                        });
                    }
                }
            }
            check(&format!("movsxd {}, {text}", name(a, Size::Qword)), |x| {
                x.sign_extend(Size::Dword, Size::Qword, a, memory);
            });
        }
        for (size, immediate) in SIZES.into_iter().zip(["78h", "5678h", "12345678h", "12345678h"]) {
            check(&format!("mov {}{text}, {immediate}", pointer(size)), |x| {
                x.store_immediate(size, memory, 0x1234_5678);
            });
        }
        check(&format!("sub qword ptr {text}, 0FFFFFFFFFFFFFFFFh"), |x| {
            x.arithmetic_immediate(Arithmetic::Sub, Size::Qword, memory, -1);
        });
    }
}

#[test]
fn control() {
    for (condition, mnemonic) in [
        (Condition::Below, "jb"),
        (Condition::AboveOrEqual, "jae"),
        (Condition::Equal, "je"),
        (Condition::NotEqual, "jne"),
        (Condition::BelowOrEqual, "jbe"),
        (Condition::Above, "ja"),
        (Condition::Negative, "js"),
        (Condition::Less, "jl"),
        (Condition::GreaterOrEqual, "jge"),
        (Condition::LessOrEqual, "jle"),
        (Condition::Greater, "jg"),
    ] {
        let mut x = Assembler::default();
        let [back, forth] = [x.label(), x.label()];
        x.bind(back);
        x.jump_if(condition, forth);
        x.jump(back);
        x.bind(forth);
        x.call(back);
        x.call_rax();
        x.ret();
        let texts: Vec<String> = disassemble(&x.finish().unwrap())
            .into_iter()
            .map(|(_, text)| {
                let operand = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
                text[..operand].replace("near ptr ", "")
            })
            .collect();
        assert_eq!(
            texts,
            [
                format!("{mnemonic} "),
                "jmp ".into(),
                "call ".into(),
                "call rax".into(),
                "ret".into()
            ]
        );
    }
    check("cdq", |x| x.sign_extend_accumulator(Size::Dword));
    check("cqo", |x| x.sign_extend_accumulator(Size::Qword));
}

#[test]
fn a_jump_to_nowhere_is_no_code() {
    let mut x = Assembler::default();
    let label = x.label();
    x.jump(label);
    assert_eq!(x.finish(), None);
}
