//! Huge pages for the time of a run: the same page size for everybody who takes part.

use std::path::Path;

use super::{Error, Result};

const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Pages of 2 MiB for DPDK, Open vSwitch and two guests.
const WANTED: u64 = 1024;

/// A pool that is as it was when this is dropped.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
}

impl HugePages {
    /// Enlarges the pool, if it is not large enough.
    pub fn reserve() -> Result<HugePages> {
        let before = read()?;
        let pages = HugePages { before };
        if before < WANTED {
            write(WANTED)?;
        }
        match read()? {
            got if got < WANTED => Err(Error::Missing(format!(
                "only {got} of {WANTED} huge pages of 2 MiB can be had"
            ))),
            _ => Ok(pages),
        }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // If somebody else has changed the pool since then, it is theirs.
        if read().is_ok_and(|now| now == WANTED) {
            let _ = write(self.before);
        }
    }
}

fn read() -> Result<u64> {
    let text = std::fs::read_to_string(POOL).map_err(Error::io("read", POOL))?;
    text.trim().parse().map_err(|_| Error::Unreadable {
        program: POOL.to_owned(),
        wanted: "number",
        printed: text,
    })
}

fn write(pages: u64) -> Result<()> {
    std::fs::write(Path::new(POOL), pages.to_string()).map_err(Error::io("write", POOL))
}
