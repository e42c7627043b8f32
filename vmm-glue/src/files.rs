//! Files that a command reads or writes; `-` is standard input.

use std::io::Read;

use crate::error::Error;

/// All that is in a file.
pub fn read(path: &str) -> Result<Vec<u8>, Error> {
    let mut octets = Vec::new();
    let read = match path {
        "-" => std::io::stdin().read_to_end(&mut octets).map(|_| octets),
        _ => std::fs::read(path),
    };
    read.map_err(|source| Error::CannotRead {
        path: path.into(),
        source,
    })
}

/// Makes a file of these octets.
pub fn write(path: &str, octets: &[u8]) -> Result<(), Error> {
    std::fs::write(path, octets).map_err(|source| Error::CannotWrite {
        path: path.into(),
        source,
    })
}
