//! Loaded BPF programs as the model's programs: the engine on one side, frames and devices on the other.

mod environment;
mod fib;
mod frame;
mod program;

pub use program::LoadedProgram;
