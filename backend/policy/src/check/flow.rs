//! Where control goes: never out of a function but by calls and exits, and everywhere that there are instructions.

use crate::Instruction;
use crate::code::Function;
use crate::layout::FRAMES_MAX;
use crate::{class, opcode};

use super::{Found, Problem};

pub(super) fn check(instructions: &[Instruction], functions: &[Function]) -> Result<(), Found> {
    let seconds = second_halves(instructions);
    for function in functions {
        check_jumps(instructions, function, &seconds)?;
        check_last(instructions, function, &seconds)?;
    }
    let calls = check_calls(instructions, functions, &seconds)?;
    check_reachable(instructions, functions, &seconds)?;
    check_depth(&calls, functions.len())
}

/// Which instructions are the second half of `lddw`.
fn second_halves(instructions: &[Instruction]) -> Vec<bool> {
    let mut seconds = vec![false; instructions.len()];
    for index in 1..instructions.len() {
        seconds[index] = instructions[index - 1].is_wide() && !seconds[index - 1];
    }
    seconds
}

/// Whether control may go from an instruction to the one behind it.
pub(super) fn falls_through(instruction: Instruction) -> bool {
    !matches!(instruction.opcode, opcode::JA | opcode::JA32 | opcode::EXIT)
}

// verifier.c: check_subprogs, check_cfg
fn check_jumps(instructions: &[Instruction], function: &Function, seconds: &[bool]) -> Result<(), Found> {
    for index in function.start..function.end {
        let instruction = instructions[index];
        let is_jump = matches!(instruction.class(), class::JMP | class::JMP32)
            && !matches!(instruction.opcode, opcode::CALL | opcode::EXIT);
        if !is_jump || seconds[index] {
            continue;
        }
        let inside = |target: &usize| (function.start..function.end).contains(target);
        let Some(target) = instruction.jump_target(index).filter(inside) else {
            let distance = match instruction.opcode {
                opcode::JA32 => i64::from(instruction.imm),
                _ => i64::from(instruction.offset),
            };
            let to = index as i64 + 1 + distance;
            return Err((index, Problem::JumpRange { from: index, to }));
        };
        if seconds[target] {
            return Err((index, Problem::JumpIntoWide(target - 1)));
        }
    }
    Ok(())
}

// verifier.c: check_subprogs
fn check_last(instructions: &[Instruction], function: &Function, seconds: &[bool]) -> Result<(), Found> {
    let last = function.end - 1;
    // The second half of a wide instruction has opcode 0 and falls through.
    if falls_through(instructions[last]) || seconds[last] {
        return Err((last, Problem::Last));
    }
    Ok(())
}

/// A call of a function, or a mention of one that a helper may call.
struct Call {
    instruction: usize,
    caller: usize,
    callee: usize,
}

fn check_calls(
    instructions: &[Instruction],
    functions: &[Function],
    seconds: &[bool],
) -> Result<Vec<Call>, Found> {
    let mut calls = Vec::new();
    for (caller, function) in functions.iter().enumerate() {
        for index in (function.start..function.end).filter(|index| !seconds[*index]) {
            let instruction = instructions[index];
            if !instruction.is_local_call() && !names_function(instruction) {
                continue;
            }
            let target = instruction.function_target(index);
            let callee = target.and_then(|target| find(functions, target));
            let to = index as i64 + 1 + i64::from(instruction.imm);
            calls.push(Call {
                instruction: index,
                caller,
                callee: callee.ok_or((index, Problem::NoFunction(to)))?,
            });
        }
    }
    Ok(calls)
}

fn names_function(instruction: Instruction) -> bool {
    instruction.is_wide() && instruction.src == crate::pseudo::FUNCTION
}

/// The function that starts at an instruction.
fn find(functions: &[Function], start: usize) -> Option<usize> {
    functions
        .binary_search_by_key(&start, |function| function.start)
        .ok()
}

// verifier.c: check_cfg
fn check_reachable(
    instructions: &[Instruction],
    functions: &[Function],
    seconds: &[bool],
) -> Result<(), Found> {
    let mut reached = vec![false; instructions.len()];
    let mut pending: Vec<usize> = functions
        .first()
        .map(|function| function.start)
        .into_iter()
        .collect();
    while let Some(index) = pending.pop() {
        if std::mem::replace(&mut reached[index], true) {
            continue;
        }
        let instruction = instructions[index];
        pending.extend(instruction.jump_target(index));
        pending.extend(instruction.function_target(index));
        if falls_through(instruction) {
            pending.push(index + if instruction.is_wide() { 2 } else { 1 });
        }
    }
    let unreached = (0..instructions.len()).find(|index| !reached[*index] && !seconds[*index]);
    unreached.map_or(Ok(()), |index| Err((index, Problem::Unreachable(index))))
}

// verifier.c: check_max_stack_depth_subprog; a function that calls itself has no depth
fn check_depth(calls: &[Call], functions: usize) -> Result<(), Found> {
    // The first function has one frame; nobody else any, until somebody calls.
    let mut frames = vec![0; functions];
    frames[0] = 1;
    for _ in 0..=FRAMES_MAX {
        let mut deeper = false;
        for call in calls {
            let needed = frames[call.caller] + 1;
            if frames[call.caller] == 0 || needed <= frames[call.callee] {
                continue;
            }
            if needed > FRAMES_MAX {
                return Err((call.instruction, Problem::CallDepth(needed)));
            }
            frames[call.callee] = needed;
            deeper = true;
        }
        if !deeper {
            break;
        }
    }
    Ok(())
}
