//! Loads, stores and atomic operations: inside the window as RFC 9669 says, and never outside.

use super::*;
use crate::layout::{CONTEXT, CONTEXT_LEN, FIRST, PACKET, PACKET_LEN, READ_ONLY, SHARED, STACK_LEN};
use crate::memory::Section;

const SIZES: [(u8, i64); 4] = [(size::B, 1), (size::H, 2), (size::W, 4), (size::DW, 8)];

/// What is mapped, and whether it can be written.
fn regions(place: &Place) -> [(i64, i64, bool); 5] {
    let memory = place.0.memory();
    let shared = memory.allocate(Section::Shared, 5000).unwrap();
    let read_only = memory.allocate(Section::ReadOnly, 100).unwrap();
    assert_eq!((shared.start, read_only.start), (SHARED, READ_ONLY));
    [
        (CONTEXT.into(), CONTEXT_LEN.into(), true),
        (STACK.into(), STACK_LEN.into(), true),
        (PACKET.into(), PACKET_LEN.into(), true),
        (SHARED.into(), 8192, true),
        (READ_ONLY.into(), 4096, false),
    ]
}

/// The first octet of an access that cannot be had.
fn first_fault(regions: &[(i64, i64, bool)], address: i64, len: i64, write: bool) -> Option<i64> {
    (address..address + len).find(|at| {
        !regions
            .iter()
            .any(|(start, len, writable)| (*start..start + len).contains(at) && (*writable || !write))
    })
}

#[test]
fn every_access_is_in_the_window_or_stops_the_program() {
    let place = Place::new();
    let regions = regions(&place);
    let edges = regions.iter().flat_map(|(start, len, _)| [*start, start + len]);
    let mut addresses: Vec<i64> = edges.flat_map(|edge| (edge - 9)..(edge + 9)).collect();
    addresses.extend([0, 1, 4095, 4096, 0x8000, 0xffff, i64::from(FIRST) - 1]);
    addresses.extend([0x7fff_ffff, 0x8000_0000, 0xdfff_ffff, 0xe000_0000]);
    addresses.extend((1_i64 << 32) - 9..(1 << 32) + 9);
    addresses.extend([-32768, -1, -8, (1 << 32) - 1 + 32767]);
    let (mut stopped, mut went_on) = (0, 0);
    for (size, len) in SIZES {
        for offset in [0, 1, -1, 127, -128, 128, i16::MAX, i16::MIN] {
            let accesses = [
                (load(size, 0, 1, offset), false),
                (op(class::LDX | mode::MEMSX | size, 0, 1, offset, 0), false),
                (store(size, 1, offset, 2), true),
                (op(class::ST | mode::MEM | size, 1, 0, offset, 0), true),
            ];
            for (access, write) in accesses {
                if access.opcode == class::LDX | mode::MEMSX | size::DW {
                    continue;
                }
                let compiled = compile(&code(&[&[access, mov(0, 0), exit()]]));
                for address in &addresses {
                    // Only the low half of the register counts, whatever is above.
                    let Ok(low) = u32::try_from(address - i64::from(offset)) else {
                        continue;
                    };
                    for high in [0, 0x7fff_0000_0000_0000, 0xffff_ffff_0000_0000] {
                        let got = place.call(&compiled, [u64::from(low) | high, 0, 0, 0, 0]);
                        let wanted = match first_fault(&regions, *address, len, write) {
                            Some(address) => Err(FaultKind::Access { address }),
                            None => Ok(0),
                        };
                        assert_eq!(got, wanted, "{access:?} at {address:#x}");
                        match got {
                            Ok(_) => went_on += 1,
                            Err(_) => stopped += 1,
                        }
                    }
                }
            }
        }
    }
    assert!(stopped > 1000 && went_on > 1000);
}

#[test]
fn a_host_pointer_leads_nowhere() {
    let place = Place::new();
    let target = Box::new(0x5555_5555_5555_5555_u64);
    let pointer = std::ptr::from_ref(&*target) as u64;
    let program = compile(&code(&[&[store(size::DW, 1, 0, 2), mov(0, 0), exit()]]));
    let result = place.call(&program, [pointer, 1, 0, 0, 0]);
    assert!(matches!(result, Err(FaultKind::Access { address }) if address == (pointer as u32).into()));
    assert_eq!(*target, 0x5555_5555_5555_5555);
}

#[test]
fn loads_and_stores_have_their_sizes_and_signs() {
    let place = Place::new();
    let value = 0x8182_8384_8586_8788_u64;
    for (size, len) in SIZES {
        let bits = 64 - 8 * len as u32;
        for (dst, src) in (0..10).flat_map(|dst| (0..11).map(move |src| (dst, src))) {
            // Something is around what is stored, and stays.
            let mut program = vec![op(class::ST | mode::MEM | size::DW, 10, 0, -8, -1)];
            program.extend(wide(dst, 0, value));
            program.push(store(size, 10, -8, dst));
            if src != 10 {
                program.push(copy(src, 10));
            }
            program.extend([load(size, dst, src, -8), copy(0, dst), exit()]);
            let loaded = place.run(&code(&[&program]), [0; 5]);
            assert_eq!(loaded, Ok(value << bits >> bits));
            let around = place.run(&code(&[&[load(size::DW, 0, 10, -8), exit()]]), [0; 5]);
            let mask = u64::MAX.checked_shl(8 * len as u32).unwrap_or(0);
            assert_eq!(around, Ok(mask | value & !mask));
            if size != size::DW {
                let index = program.len() - 3;
                program[index].opcode = class::LDX | mode::MEMSX | size;
                let loaded = place.run(&code(&[&program]), [0; 5]);
                assert_eq!(loaded, Ok(((value << bits) as i64 >> bits) as u64));
            }
        }
        let immediate = [
            op(class::ST | mode::MEM | size, 10, 0, -16, -2),
            load(size, 0, 10, -16),
            exit(),
        ];
        assert_eq!(
            place.run(&code(&[&immediate]), [0; 5]),
            Ok(-2_i64 as u64 & u64::MAX >> bits)
        );
    }
}

#[test]
fn successive_accesses_follow_a_register_that_changes() {
    let place = Place::new();
    let add = |dst, imm| op(class::ALU64 | alu::ADD, dst, 0, 0, imm);
    let program = [
        op(class::ST | mode::MEM | size::DW, 10, 0, -8, 8),
        op(class::ST | mode::MEM | size::DW, 10, 0, -16, 16),
        op(class::ST | mode::MEM | size::DW, 10, 0, -24, 24),
        copy(1, 10),
        add(1, -8),
        load(size::DW, 0, 1, 0),
        load(size::DW, 2, 1, -8),
        add(1, -16),
        load(size::DW, 3, 1, 0),
        // The base itself is loaded: the next access goes by what it is then.
        store(size::DW, 10, -32, 1),
        copy(4, 10),
        load(size::DW, 4, 4, -32),
        load(size::DW, 4, 4, 0),
        op(class::ALU64 | alu::LSH, 2, 0, 0, 8),
        op(class::ALU64 | alu::LSH, 3, 0, 0, 16),
        op(class::ALU64 | alu::LSH, 4, 0, 0, 24),
        op(class::ALU64 | alu::OR | source::X, 0, 2, 0, 0),
        op(class::ALU64 | alu::OR | source::X, 0, 3, 0, 0),
        op(class::ALU64 | alu::OR | source::X, 0, 4, 0, 0),
        exit(),
    ];
    assert_eq!(place.run(&code(&[&program]), [0; 5]), Ok(0x1818_1008));
}

/// RFC 9669, 5.3: what is in memory, in the source and in r0 afterwards.
fn expected(imm: i32, wide: bool, memory: u64, source: u64, r0: u64) -> (u64, u64, u64) {
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    let old = memory & mask;
    let new = match imm & !atomic::FETCH {
        _ if imm == atomic::XCHG => source,
        _ if imm == atomic::CMPXCHG => {
            let new = if old == r0 & mask { source } else { old };
            return (memory & !mask | new & mask, source, old);
        }
        atomic::ADD => old.wrapping_add(source),
        atomic::OR => old | source,
        atomic::AND => old & source,
        _ => old ^ source,
    };
    let source = if imm & atomic::FETCH != 0 { old } else { source };
    (memory & !mask | new & mask, source, r0)
}

#[test]
fn atomic_operations() {
    let place = Place::new();
    let operations = [
        atomic::ADD,
        atomic::OR,
        atomic::AND,
        atomic::XOR,
        atomic::ADD | atomic::FETCH,
        atomic::OR | atomic::FETCH,
        atomic::AND | atomic::FETCH,
        atomic::XOR | atomic::FETCH,
        atomic::XCHG,
        atomic::CMPXCHG,
    ];
    let at = STACK_TOP - 256;
    for (imm, size) in operations
        .iter()
        .flat_map(|imm| [size::W, size::DW].map(|size| (*imm, size)))
    {
        for (dst, src) in (0..11).flat_map(|dst| (0..10).map(move |src| (dst, src))) {
            if dst == src || dst == 0 && imm == atomic::CMPXCHG {
                continue;
            }
            let memory = 0x8877_6655_4433_2211_u64;
            for (source, r0) in [
                (0x1111_2222_3333_4444, memory),
                (u64::MAX, memory ^ 1),
                (7, 0xffff_ffff_4433_2211),
            ] {
                let r0 = if src == 0 { source } else { r0 };
                let mut program = Vec::new();
                program.extend(wide(0, 0, r0));
                program.extend(wide(src, 0, source));
                let offset = match dst {
                    10 => -256,
                    _ => {
                        program.extend(wide(dst, 0, u64::from(at) + 8));
                        -8
                    }
                };
                program.push(op(class::STX | mode::ATOMIC | size, dst, src, offset, imm));
                program.extend([
                    store(size::DW, 10, -264, src),
                    store(size::DW, 10, -272, 0),
                    exit(),
                ]);
                let r0 = if dst == 0 { u64::from(at) + 8 } else { r0 };
                let compiled = compile(&code(&[&program]));
                let after = place.with(|machine| {
                    let word = |address: u32| machine.view().at(address).cast::<u64>();
                    let (memory_at, source_at, r0_at) = (word(at), word(at - 8), word(at - 16));
                    // SAFETY: the stack is mapped, and this test's.
                    unsafe { memory_at.write(memory) };
                    compiled.call(machine, 0, [0; 5], STACK_TOP).unwrap();
                    // SAFETY: as above.
                    unsafe { (memory_at.read(), source_at.read(), r0_at.read()) }
                });
                let mut wanted = expected(imm, size == size::DW, memory, source, r0);
                if src == 0 {
                    // They are one register.
                    match imm {
                        atomic::CMPXCHG => wanted.1 = wanted.2,
                        _ => wanted.2 = wanted.1,
                    }
                }
                assert_eq!(after, wanted, "{imm:#x} {size} r{dst} r{src}");
            }
        }
    }
}

#[test]
fn atomic_operations_are_aligned_or_stop_the_program() {
    let place = Place::new();
    for (size, len) in [(size::W, 4), (size::DW, 8)] {
        for imm in [
            atomic::ADD,
            atomic::OR | atomic::FETCH,
            atomic::XCHG,
            atomic::CMPXCHG,
        ] {
            for shift in 0..16 {
                for dst in [1, 10] {
                    let offset = shift - 64;
                    let body = [
                        copy(1, 10),
                        op(class::STX | mode::ATOMIC | size, dst, 2, offset, imm),
                        mov(0, 0),
                        exit(),
                    ];
                    let wanted = match shift % len {
                        0 => Ok(0),
                        _ => Err(FaultKind::Misaligned {
                            address: i64::from(STACK_TOP) + i64::from(offset),
                        }),
                    };
                    assert_eq!(place.run(&code(&[&body]), [0; 5]), wanted);
                }
            }
            let stray = [op(class::STX | mode::ATOMIC | size, 1, 2, 0, imm), exit()];
            for address in [0_u32, 0xffff_fff8] {
                assert_eq!(
                    place.run(&code(&[&stray]), [address.into(), 0, 0, 0, 0]),
                    Err(FaultKind::Access {
                        address: address.into()
                    })
                );
            }
        }
    }
}

#[test]
fn two_threads_add_without_losing_any() {
    let domain = Domain::new(2, None).unwrap();
    let block = domain.memory().allocate(Section::Shared, 16).unwrap();
    let body = [
        mov(3, 1),
        op(class::STX | mode::ATOMIC | size::DW, 1, 3, 0, atomic::ADD),
        mov(3, 1),
        op(
            class::STX | mode::ATOMIC | size::DW,
            1,
            3,
            8,
            atomic::XOR | atomic::FETCH,
        ),
        op(class::ALU64 | alu::ADD, 2, 0, 0, -1),
        op(class::JMP | jump::JNE, 2, 0, -6, 0),
        exit(),
    ];
    let compiled = compile(&code(&[&body]));
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let (domain, compiled) = (&domain, &compiled);
            scope.spawn(move || {
                // SAFETY: each thread has its shard.
                let result = unsafe {
                    domain.enter(shard, |machine| {
                        machine.words.fuel = 1_000_000;
                        compiled.call(machine, 0, [block.start.into(), 20_001, 0, 0, 0], STACK_TOP)
                    })
                };
                assert!(result.is_ok());
            });
        }
    });
    let word = domain.memory().view(0).at(block.start).cast::<u64>();
    // SAFETY: the block is mapped, and the threads have ended.
    let (sum, parity) = unsafe { (word.read(), word.add(1).read()) };
    assert_eq!((sum, parity), (40_002, 0));
}
