//! Random programs that call: they are proven, they end, and nothing that the host leaves in registers tells in them.

use super::*;
use crate::helper::TAIL_CALL;
use crate::layout::STACK_LEN;
use proptest::prelude::*;

fn instruction(at: usize, len: usize) -> BoxedStrategy<Instruction> {
    let register = 0..10_u8;
    let any_source = 0..11_u8;
    let arithmetic = (
        prop::sample::select(vec![class::ALU, class::ALU64]),
        prop::sample::select(vec![
            alu::ADD,
            alu::MUL,
            alu::DIV,
            alu::MOD,
            alu::LSH,
            alu::ARSH,
            alu::XOR,
            alu::MOV,
        ]),
        prop::sample::select(vec![source::K, source::X]),
        (register.clone(), any_source.clone(), any::<i32>()),
    )
        .prop_map(|(class, operation, source, (dst, src, imm))| {
            op(class | operation | source, dst, src, 0, imm)
        });
    let sizes = || prop::sample::select(vec![size::B, size::H, size::W, size::DW]);
    let slot = (1..64_i16).prop_map(|slot| -8 * slot);
    let loads =
        (sizes(), register.clone(), slot.clone()).prop_map(|(size, dst, offset)| load(size, dst, 10, offset));
    let stores = (sizes(), any_source.clone(), slot.clone())
        .prop_map(|(size, src, offset)| store(size, 10, offset, src));
    let atomics = (register.clone(), slot, 0..6_usize).prop_map(|(src, offset, which)| {
        let imm = [
            atomic::ADD,
            atomic::ADD | atomic::FETCH,
            atomic::OR | atomic::FETCH,
            atomic::AND | atomic::FETCH,
            atomic::XCHG,
            atomic::CMPXCHG,
        ][which];
        op(class::STX | mode::ATOMIC | size::DW, 10, src, offset, imm)
    });
    let jumps = (
        prop::sample::select(vec![jump::JEQ, jump::JNE, jump::JSGT, jump::JSET, jump::JA]),
        register,
        0..len,
    )
        .prop_map(move |(operation, dst, to)| {
            let dst = if operation == jump::JA { 0 } else { dst };
            op(
                class::JMP | operation,
                dst,
                0,
                (to as i64 - at as i64 - 1) as i16,
                0,
            )
        });
    let calls = prop::sample::select(vec![
        helper(DIRTY),
        helper(DIRTY),
        helper(SUM),
        helper(TAIL_CALL as i32),
        op(class::LD | mode::IND | size::H, 0, 3, 0, 4),
        op(opcode::CALL, 0, pseudo::CALL, 0, 0),
        exit(),
    ]);
    prop_oneof![
        3 => arithmetic,
        2 => loads,
        2 => stores,
        1 => atomics,
        2 => jumps,
        4 => calls,
    ]
    .boxed()
}

fn function() -> impl Strategy<Value = Vec<Instruction>> {
    (2..20_usize).prop_flat_map(|len| {
        let instructions: Vec<_> = (0..len - 1).map(|at| instruction(at, len)).collect();
        instructions.prop_map(|mut instructions| {
            instructions.push(exit());
            instructions
        })
    })
}

/// Leads calls to one of the functions.
fn link(functions: &[Vec<Instruction>]) -> Code {
    let slices: Vec<&[Instruction]> = functions.iter().map(Vec::as_slice).collect();
    let mut code = code(&slices);
    for at in 0..code.instructions.len() {
        if code.instructions[at].is_local_call() {
            let callee = &code.functions[at % functions.len()];
            code.instructions[at].imm = (callee.start as i64 - at as i64 - 1) as i32;
        }
    }
    code
}

fn otherwise(id: u32) -> Option<&'static Helper> {
    static OTHERWISE_DIRTY: Helper = Helper {
        id: DIRTY as u32,
        function: otherwise_dirty,
        calls_back: false,
    };
    match id {
        id if id == DIRTY as u32 => Some(&OTHERWISE_DIRTY),
        id => helpers(id),
    }
}

/// What a run leaves: its result, and the stack.
fn outcome(place: &Place, compiled: &Compiled) -> (Result<u64, FaultKind>, Vec<u8>) {
    place.with(|machine| {
        let stack = machine.view().at(STACK);
        // SAFETY: the stack is mapped, and this test's.
        unsafe { stack.write_bytes(0, STACK_LEN as usize) };
        let result = compiled.call(machine, 0, [1, 2, 3, 4, 5], STACK_TOP);
        let result = result.map_err(|_| machine.fault.expect("a stop has a reason"));
        // SAFETY: as above; nobody writes to it now.
        let stack = unsafe { std::slice::from_raw_parts(stack, STACK_LEN as usize) };
        (result, stack.to_vec())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_the_host_leaves_in_registers_is_never_seen(
        functions in prop::collection::vec(function(), 1..4)
    ) {
        let code = link(&functions);
        let place = Place::new();
        for target in targets() {
            let one = Compiled::for_target(&code, target).unwrap();
            let other = Compiled::for_target(&code, Target { helpers: otherwise, ..target }).unwrap();
            prop_assert_eq!(outcome(&place, &one), outcome(&place, &other));
        }
    }
}
