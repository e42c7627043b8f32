//! Maps keep the kernel's promises, whatever programs do meanwhile and whenever the process is killed.

mod common;
mod kernel;
mod kinds;
mod model;
mod nested;
mod restore;
mod rings;
mod threads;
