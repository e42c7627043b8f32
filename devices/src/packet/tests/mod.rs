//! Tests of the offloads against frames that are built, summed and cut by plain code of their own.

mod accept;
mod adapt;
mod checksum;
mod headers;
mod hostile;
mod recipe;
mod tunnel;
mod wrapping;
