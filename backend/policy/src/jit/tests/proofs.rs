//! The proof accepts what the compiler makes, refuses what is hostile, and what it accepts can be run.

use super::*;

/// Something of everything.
fn sample() -> Output {
    let atomic = |size: u8, imm: i32| op(class::STX | mode::ATOMIC | size, 10, 3, -8, imm);
    let main = [
        wide(6, 0, 0x1122_3344_5566_7788).as_slice(),
        &[
            op(class::ST | mode::MEM | size::DW, 10, 0, -8, 3),
            mov(3, 12),
            op(class::ALU64 | alu::DIV | source::X, 6, 3, 1, 0),
            op(class::ALU | alu::MOD, 6, 0, 0, 7),
            atomic(size::DW, atomic::ADD | atomic::FETCH),
            atomic(size::W, atomic::XOR | atomic::FETCH),
            load(size::W, 2, 1, 76),
            load(size::H, 4, 2, 12),
            op(class::ALU | alu::END | source::X, 4, 0, 0, 16),
            op(class::ALU64 | alu::LSH | source::X, 4, 3, 0, 0),
            local(6),
            mov(7, 3),
            op(class::ALU64 | alu::ADD, 7, 0, 0, -1),
            op(class::JMP | jump::JNE, 7, 0, -2, 0),
            mov(1, 1),
            helper(SUM),
            exit(),
        ],
    ]
    .concat();
    let function = [
        mov(6, 1),
        op(class::LD | mode::ABS | size::B, 0, 0, 0, 3),
        helper(DIRTY),
        exit(),
    ];
    translate(&code(&[&main, &function]), target()).unwrap()
}

#[test]
fn the_compilers_code_is_proven() {
    assert_eq!(proof::prove(&sample()), Ok(()));
}

/// Replaces twenty octets in the middle of a function. What is left over does nothing.
fn with(octets: &[u8]) -> Result<(), proof::ProofError> {
    let marker = 0x1122_3344_5566_7788_u64;
    let body = [
        load(size::W, 2, 1, 0),
        helper(DIRTY),
        wide(0, 0, marker)[0],
        wide(0, 0, marker)[1],
        wide(0, 0, marker)[0],
        wide(0, 0, marker)[1],
        exit(),
    ];
    let mut output = translate(&code(&[&body]), target()).unwrap();
    let at = output
        .code
        .windows(10)
        .position(|window| window[2..] == marker.to_le_bytes())
        .unwrap();
    let mut patch = octets.to_vec();
    while patch.len() < 20 {
        // mov rax, rax; mov eax, eax
        let filler: &[u8] = match patch.len() % 2 {
            1 => &[0x48, 0x89, 0xc0],
            _ => &[0x89, 0xc0],
        };
        patch.extend(filler);
    }
    output.code[at..at + 20].copy_from_slice(&patch);
    proof::prove(&output)
}

#[test]
fn harmless_instructions_are_proven() {
    for octets in [
        [].as_slice(),
        // mov r11d, eax; mov rax, [r12+r11]
        &[0x41, 0x89, 0xc3, 0x4b, 0x8b, 0x04, 0x1c],
        // mov rax, [r12+rbp]
        &[0x49, 0x8b, 0x04, 0x2c],
    ] {
        assert_eq!(with(octets), Ok(()), "{octets:02x?}");
    }
}

#[test]
fn hostile_instructions_are_refused() {
    let hostile: &[(&str, &[u8])] = &[
        ("syscall", &[0x0f, 0x05]),
        ("sysenter", &[0x0f, 0x34]),
        ("int 80h", &[0xcd, 0x80]),
        ("int3; int3", &[0xcc, 0xcc]),
        ("ud2", &[0x0f, 0x0b]),
        ("hlt; hlt", &[0xf4, 0xf4]),
        ("cpuid", &[0x0f, 0xa2]),
        ("rdtsc", &[0x0f, 0x31]),
        ("in al, 1", &[0xe4, 0x01]),
        ("pushfq; popfq", &[0x9c, 0x9d]),
        ("std; std", &[0xfd, 0xfd]),
        ("rep movsb", &[0xf3, 0xa4]),
        ("stosq", &[0x48, 0xab]),
        ("wrfsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
        ("fninit", &[0xdb, 0xe3]),
        ("movd xmm0, eax", &[0x66, 0x0f, 0x6e, 0xc0]),
        ("xlatb; xlatb", &[0xd7, 0xd7]),
        ("mov rdi, rax", &[0x48, 0x89, 0xc7]),
        ("mov dil, al", &[0x40, 0x88, 0xc7]),
        ("mov r12, rax", &[0x49, 0x89, 0xc4]),
        ("mov r12d, eax", &[0x41, 0x89, 0xc4]),
        ("mov rsp, rax", &[0x48, 0x89, 0xc4]),
        ("mov rbp, rax", &[0x48, 0x89, 0xc5]),
        ("mov ebp, eax", &[0x89, 0xc5]),
        ("add rsp, 8", &[0x48, 0x83, 0xc4, 0x08]),
        ("sub rbp, 512", &[0x48, 0x81, 0xed, 0, 2, 0, 0]),
        ("xchg rdi, rax", &[0x48, 0x87, 0xf8]),
        ("mov rdi, [rsp]", &[0x48, 0x8b, 0x3c, 0x24]),
        ("push rax; pop rax", &[0x50, 0x58]),
        ("pop rdi; push rdi", &[0x5f, 0x57]),
        ("ret; ret", &[0xc3, 0xc3]),
        ("ret 8", &[0xc2, 8, 0]),
        ("leave; leave", &[0xc9, 0xc9]),
        ("jmp rax", &[0xff, 0xe0]),
        ("call rax", &[0xff, 0xd0]),
        ("call [rax]", &[0xff, 0x10]),
        ("jmp $+1, into itself", &[0xeb, 0xff]),
        ("jmp far away", &[0xe9, 0, 0, 0, 1]),
        ("jmp $", &[0xe9, 0xfb, 0xff, 0xff, 0xff]),
        ("je $", &[0x0f, 0x84, 0xfa, 0xff, 0xff, 0xff]),
        ("jrcxz", &[0xe3, 0]),
        ("loop", &[0xe2, 0]),
        ("call behind", &[0xe8, 0, 0, 0, 0]),
        ("mov rax, [rax]", &[0x48, 0x8b, 0x00]),
        ("mov rax, [rsp]", &[0x48, 0x8b, 0x04, 0x24]),
        ("mov [rsp], rax", &[0x48, 0x89, 0x04, 0x24]),
        ("mov rax, [rdi]", &[0x48, 0x8b, 0x07]),
        ("mov rax, [rdi+8]", &[0x48, 0x8b, 0x47, 0x08]),
        ("mov [rdi+20h], rax", &[0x48, 0x89, 0x47, 0x20]),
        ("mov [rdi], rax", &[0x48, 0x89, 0x07]),
        ("add qword [rdi+8], 1", &[0x48, 0x83, 0x47, 0x08, 0x01]),
        ("sub qword [rdi+8], -1", &[0x48, 0x83, 0x6f, 0x08, 0xff]),
        ("sub qword [rdi+8], 1, alone", &[0x48, 0x83, 0x6f, 0x08, 0x01]),
        ("mov rax, [rip]", &[0x48, 0x8b, 0x05, 0, 0, 0, 0]),
        ("mov eax, [0]", &[0x8b, 0x04, 0x25, 0, 0, 0, 0]),
        (
            "mov rax, [r12+r11], from before the call",
            &[0x4b, 0x8b, 0x04, 0x1c],
        ),
        (
            "mov r11, rax; mov rax, [r12+r11]",
            &[0x49, 0x89, 0xc3, 0x4b, 0x8b, 0x04, 0x1c],
        ),
        ("mov rax, [r12+rax]", &[0x49, 0x8b, 0x04, 0x04]),
        ("mov rax, [r12]", &[0x49, 0x8b, 0x04, 0x24]),
        ("mov rax, [r12+rbp*2]", &[0x49, 0x8b, 0x04, 0x6c]),
        (
            "mov rax, [r12+rbp+8000h]",
            &[0x49, 0x8b, 0x84, 0x2c, 0, 0x80, 0, 0],
        ),
        (
            "mov rax, [r12+rbp-8001h]",
            &[0x49, 0x8b, 0x84, 0x2c, 0xff, 0x7f, 0xff, 0xff],
        ),
        ("mov rax, gs:[r12+rbp]", &[0x65, 0x49, 0x8b, 0x04, 0x2c]),
        ("mov rax, fs:[r12+rbp]", &[0x64, 0x49, 0x8b, 0x04, 0x2c]),
        ("mov eax, [r12d+ebp]", &[0x67, 0x41, 0x8b, 0x04, 0x2c]),
        ("movups xmm0, [r12+rbp]", &[0x41, 0x0f, 0x10, 0x04, 0x2c]),
        ("lea rax, [rsp]", &[0x48, 0x8d, 0x04, 0x24]),
        ("lea rax, [rip]", &[0x48, 0x8d, 0x05, 0, 0, 0, 0]),
        ("lea rdi, [rbp+0]", &[0x48, 0x8d, 0xbd, 0, 0, 0, 0]),
        ("mov ax, ds", &[0x66, 0x8c, 0xd8]),
        ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
        ("mov rax, r10, after a call", &[0x4c, 0x89, 0xd0]),
        ("mov rax, r11, after a call", &[0x4c, 0x89, 0xd8]),
        ("div r11", &[0x49, 0xf7, 0xf3]),
        (
            "mov r11d, 1; div r11",
            &[0x41, 0xbb, 1, 0, 0, 0, 0x49, 0xf7, 0xf3],
        ),
        ("div rax", &[0x48, 0xf7, 0xf0]),
        ("mul rax", &[0x48, 0xf7, 0xe0]),
        ("enter", &[0xc8, 0, 0, 0]),
    ];
    for (name, octets) in hostile {
        assert!(with(octets).is_err(), "{name}");
    }
}

#[test]
fn a_register_that_a_call_left_is_not_read() {
    let body = [helper(DIRTY), mov(0, 0), ja_over(), exit()];
    let mut output = translate(&code(&[&body]), target()).unwrap();
    assert_eq!(proof::prove(&output), Ok(()));
    // Take the zeroing of rsi away: mov eax, eax in place of xor esi, esi.
    let zeroing = output.code.windows(2).position(|w| w == [0x31, 0xf6]).unwrap();
    output.code[zeroing..zeroing + 2].copy_from_slice(&[0x89, 0xc0]);
    assert!(proof::prove(&output).is_err());
}

fn ja_over() -> Instruction {
    op(opcode::JA, 0, 0, 0, 0)
}

#[test]
fn entries_elsewhere_are_refused() {
    let sound = sample();
    for function in 0..2 {
        for (charged, free) in [(1, 0), (0, 1), (0, 4), (4, 4)] {
            let mut output = sample();
            output.functions[function].charged += charged;
            output.functions[function].free += free;
            assert!(proof::prove(&output).is_err());
        }
    }
    for stops in [sound.stops - 1, sound.stops + 1, 0, u32::MAX] {
        assert!(proof::prove(&Output { stops, ..sample() }).is_err());
    }
    let callees = Vec::new();
    assert!(proof::prove(&Output { callees, ..sample() }).is_err());
    for len in 0..sound.code.len() {
        let code = sound.code[..len].to_vec();
        assert!(
            proof::prove(&Output { code, ..sample() }).is_err(),
            "cut at {len}"
        );
    }
}

/// What is proven is safe, whoever made it: code with any bit flipped is refused, or can be run.
#[test]
fn flipped_bits_are_refused_or_harmless() {
    let place = Place::new();
    let sound = sample();
    let (mut refused, mut ran) = (0, 0);
    for (at, bit) in (0..sound.code.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut output = sample();
        output.code[at] ^= 1 << bit;
        if proof::prove(&output).is_err() {
            refused += 1;
            continue;
        }
        let compiled = Compiled::of_output(output).unwrap();
        place.with(|machine| {
            let _ = compiled.call(machine, 0, [crate::layout::CONTEXT.into(), 0, 0, 0, 0], STACK_TOP);
            assert_eq!(machine.shards(), 1);
        });
        ran += 1;
    }
    assert!(refused > 500 && ran > 500, "{refused} {ran}");
}
