//! The index of an LPM trie: from a prefix to the slot of its entry (lpm_trie.c describes the shape).
//!
//! Who looks something up takes no lock. A change becomes visible with one store; the version is raised before a node
//! or a slot that was taken out is used for anything else, so a search between two equal versions was a true one.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use super::attributes::PREFIX_MAX;
use super::blocks::Blocks;
use super::error::MapError;
use super::lock::{Held, SpinLock};
use super::pages::{Pages, Zeroable};

/// Searches without the lock that may be in vain because others change the trie.
const TRIES: usize = 16;

/// A prefix as callers give it: no longer than the trie allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix<'a> {
    /// Its bits, from the highest one of the first octet; as many octets as all prefixes of the trie have.
    pub octets: &'a [u8],
    /// How many bits count.
    pub len: u32,
}

impl Prefix<'_> {
    fn bit(&self, index: u32) -> usize {
        bit_of(|octet| self.octets.get(octet).copied().unwrap_or(0), index)
    }
}

fn bit_of(octet: impl Fn(usize) -> u8, index: u32) -> usize {
    usize::from(octet(index as usize / 8) >> (7 - index % 8) & 1)
}

/// The first octets of a prefix, the first bit on top.
unsafe fn word<const LEN: usize>(at: *const u8) -> u64 {
    let mut octets = [0; 8];
    // SAFETY: the caller guarantees the octets.
    octets[..LEN].copy_from_slice(&unsafe { at.cast::<[u8; LEN]>().read_unaligned() });
    u64::from_be_bytes(octets)
}

#[derive(Debug)]
#[repr(C)]
struct Node {
    prefix_len: AtomicU32,
    /// The slot plus 1; 0 in a node that only joins two others.
    value: AtomicU32,
    /// Nodes whose prefixes go on with a 0 and with a 1; 0 is none.
    children: [AtomicU32; 2],
}

// SAFETY: made of atomic integers, for which zero is a value.
unsafe impl Zeroable for Node {}

/// Nodes, of which number 0 stands for none.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Pages<Node>,
    octets: Pages<AtomicU8>,
    prefix_octets: usize,
    root: AtomicU32,
    version: AtomicU32,
    writer: SpinLock,
    /// The first node that was in use and is not now, linked by the first child.
    free: AtomicU32,
    fresh: AtomicU32,
}

impl Trie {
    /// A trie for so many entries at most; a prefix has `prefix_octets` octets.
    pub(super) fn new(blocks: &Blocks<'_>, entries: u32, prefix_octets: usize) -> Result<Trie, MapError> {
        // Nodes without an entry have two children each, so there are fewer of them than entries.
        let nodes = 2 * entries as usize + 1;
        Ok(Trie {
            nodes: blocks.pages(nodes)?,
            octets: blocks.pages(nodes * prefix_octets)?,
            prefix_octets,
            root: AtomicU32::new(0),
            version: AtomicU32::new(0),
            writer: SpinLock::default(),
            free: AtomicU32::new(0),
            fresh: AtomicU32::new(1),
        })
    }

    fn bits_max(&self) -> u32 {
        self.prefix_octets as u32 * 8
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    fn octets(&self, node: u32) -> &[AtomicU8] {
        let start = node as usize * self.prefix_octets;
        &self.octets[start..start + self.prefix_octets]
    }

    fn bit(&self, node: u32, index: u32) -> usize {
        let octets = self.octets(node);
        bit_of(
            |octet| octets.get(octet).map_or(0, |octet| octet.load(Ordering::Relaxed)),
            index,
        )
    }

    /// How many bits of a node's prefix and another one are the same.
    fn common(&self, node: u32, prefix: Prefix<'_>) -> u32 {
        let limit = self.node(node).prefix_len.load(Ordering::Relaxed).min(prefix.len);
        let octets = self.octets(node);
        let len = octets.len().min(prefix.octets.len());
        let (own, other) = (octets.as_ptr().cast::<u8>(), prefix.octets.as_ptr());
        let (mut bits, mut done) = (0, 0);
        while bits < limit && done < len {
            // As many octets as fit in a register, or the four of an IPv4 address, or one.
            // SAFETY: both have `len` octets; who changes a node meanwhile has the search repeated.
            let (difference, step) = unsafe {
                match len - done {
                    8.. => (word::<8>(own.add(done)) ^ word::<8>(other.add(done)), 8),
                    4..8 => (word::<4>(own.add(done)) ^ word::<4>(other.add(done)), 4),
                    _ => (word::<1>(own.add(done)) ^ word::<1>(other.add(done)), 1),
                }
            };
            if difference != 0 {
                bits += difference.leading_zeros();
                break;
            }
            bits += step as u32 * 8;
            done += step;
        }
        bits.min(limit)
    }

    /// The slot of the entry with the longest prefix that the given one starts with.
    pub(super) fn longest(&self, prefix: Prefix<'_>) -> Option<u32> {
        for _ in 0..TRIES {
            let version = self.version.load(Ordering::Acquire);
            let found = self.walk(prefix);
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return found;
            }
        }
        let _held = self.writer.lock();
        self.walk(prefix)
    }

    pub(super) fn walk(&self, prefix: Prefix<'_>) -> Option<u32> {
        let mut found = 0;
        let mut node = self.root.load(Ordering::Acquire);
        // Prefixes get longer on the way; nodes that are used anew meanwhile could make a circle.
        for _ in 0..=self.bits_max() {
            if node == 0 {
                break;
            }
            let len = self.node(node).prefix_len.load(Ordering::Relaxed);
            let common = self.common(node, prefix);
            if common < len {
                break;
            }
            match self.node(node).value.load(Ordering::Acquire) {
                0 => {}
                value => found = value,
            }
            if common == self.bits_max() {
                break;
            }
            node = self.node(node).children[prefix.bit(len)].load(Ordering::Acquire);
        }
        found.checked_sub(1)
    }

    /// The only one who changes the trie, until the result goes out of scope.
    pub(super) fn lock(&self) -> Writer<'_> {
        Writer {
            trie: self,
            _held: self.writer.lock(),
        }
    }
}

/// Somebody who may change a trie.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    trie: &'a Trie,
    _held: Held<'a>,
}

/// The way from the root to where a prefix is, or would be.
struct Path {
    /// Nodes whose prefixes the given one starts with and is longer than.
    above: [u32; PREFIX_MAX * 8 + 1],
    len: usize,
    /// The node that was met last; 0 if the way ended at nothing.
    node: u32,
    /// Bits that this node and the prefix have in common.
    common: u32,
}

impl Path {
    fn parent(&self) -> u32 {
        self.len.checked_sub(1).map_or(0, |last| self.above[last])
    }
}

impl Writer<'_> {
    fn way(&self, prefix: Prefix<'_>) -> Path {
        let mut path = Path {
            above: [0; PREFIX_MAX * 8 + 1],
            len: 0,
            node: self.trie.root.load(Ordering::Relaxed),
            common: 0,
        };
        while path.node != 0 {
            let len = self.len(path.node);
            path.common = self.trie.common(path.node, prefix);
            if path.common != len || len == prefix.len || path.len + 1 == path.above.len() {
                break;
            }
            path.above[path.len] = path.node;
            path.len += 1;
            path.node = self.child(path.node, prefix.bit(len));
        }
        path
    }

    fn len(&self, node: u32) -> u32 {
        self.trie.node(node).prefix_len.load(Ordering::Relaxed)
    }

    fn child(&self, node: u32, bit: usize) -> u32 {
        self.trie.node(node).children[bit].load(Ordering::Relaxed)
    }

    fn value(&self, node: u32) -> Option<u32> {
        self.trie.node(node).value.load(Ordering::Relaxed).checked_sub(1)
    }

    fn raise_version(&self) {
        self.trie.version.fetch_add(1, Ordering::Release);
    }

    /// Puts a node in another one's place below a parent, or below the root.
    fn hang(&self, parent: u32, old: u32, bit: usize, new: u32) {
        let link = match parent {
            0 => &self.trie.root,
            _ => &self.trie.node(parent).children[bit],
        };
        debug_assert_eq!(link.load(Ordering::Relaxed), old);
        link.store(new, Ordering::Release);
    }

    /// The slot of the entry with exactly this prefix.
    pub(super) fn exact(&self, prefix: Prefix<'_>) -> Option<u32> {
        let path = self.way(prefix);
        self.is_exact(&path, prefix)
            .then(|| self.value(path.node))
            .flatten()
    }

    fn is_exact(&self, path: &Path, prefix: Prefix<'_>) -> bool {
        path.node != 0 && path.common == prefix.len && self.len(path.node) == prefix.len
    }

    fn node(&self, octets: impl Iterator<Item = u8>, len: u32, value: u32) -> Option<u32> {
        let trie = self.trie;
        let index = match trie.free.load(Ordering::Relaxed) {
            0 => {
                let fresh = trie.fresh.load(Ordering::Relaxed);
                if fresh as usize >= trie.nodes.len() {
                    return None;
                }
                trie.fresh.store(fresh + 1, Ordering::Relaxed);
                fresh
            }
            free => {
                trie.free.store(self.child(free, 0), Ordering::Relaxed);
                free
            }
        };
        for (to, octet) in trie.octets(index).iter().zip(octets) {
            to.store(octet, Ordering::Relaxed);
        }
        let node = trie.node(index);
        node.prefix_len.store(len, Ordering::Relaxed);
        node.value.store(value, Ordering::Relaxed);
        for child in &node.children {
            child.store(0, Ordering::Relaxed);
        }
        Some(index)
    }

    fn free(&self, node: u32) {
        let free = self.trie.free.load(Ordering::Relaxed);
        self.trie.node(node).children[0].store(free, Ordering::Release);
        self.trie.free.store(node, Ordering::Relaxed);
    }

    /// Gives a prefix an entry, in place of the one that it had. The old slot may be used for something else. False if
    /// there is no room, which cannot be if there are no more entries than were announced.
    pub(super) fn set(&self, prefix: Prefix<'_>, slot: u32) -> bool {
        let path = self.way(prefix);
        if self.is_exact(&path, prefix) {
            self.trie.node(path.node).value.store(slot + 1, Ordering::Release);
            self.raise_version();
            return true;
        }
        let Some(new) = self.node(prefix.octets.iter().copied(), prefix.len, slot + 1) else {
            return false;
        };
        let parent = path.parent();
        let bit = if parent == 0 {
            0
        } else {
            prefix.bit(self.len(parent))
        };
        if path.node == 0 {
            self.hang(parent, 0, bit, new);
            return true;
        }
        if path.common == prefix.len {
            let below = self.trie.bit(path.node, path.common);
            self.trie.node(new).children[below].store(path.node, Ordering::Relaxed);
            self.hang(parent, path.node, bit, new);
            return true;
        }
        let octets = prefix.octets.iter().copied();
        let Some(joint) = self.node(octets, path.common, 0) else {
            self.free(new);
            return false;
        };
        let side = prefix.bit(path.common);
        self.trie.node(joint).children[side].store(new, Ordering::Relaxed);
        self.trie.node(joint).children[1 - side].store(path.node, Ordering::Relaxed);
        self.hang(parent, path.node, bit, joint);
        true
    }

    /// Takes the entry of a prefix away, and says in which slot it is. That may be used for something else.
    pub(super) fn remove(&self, prefix: Prefix<'_>) -> Option<u32> {
        let mut path = self.way(prefix);
        if !self.is_exact(&path, prefix) {
            return None;
        }
        let node = path.node;
        let slot = self.value(node)?;
        let children = [self.child(node, 0), self.child(node, 1)];
        if children[0] != 0 && children[1] != 0 {
            self.trie.node(node).value.store(0, Ordering::Release);
            self.raise_version();
            return Some(slot);
        }
        let only = children[0].max(children[1]);
        let parent = path.parent();
        if parent != 0 && only == 0 && self.value(parent).is_none() {
            // A node without an entry that would have one child goes, too.
            let bit = prefix.bit(self.len(parent));
            let sibling = self.child(parent, 1 - bit);
            path.len -= 1;
            let grandparent = path.parent();
            let bit = self.side(grandparent, prefix);
            self.hang(grandparent, parent, bit, sibling);
            self.raise_version();
            self.free(parent);
        } else {
            self.hang(parent, node, self.side(parent, prefix), only);
            self.raise_version();
        }
        self.free(node);
        Some(slot)
    }

    fn side(&self, parent: u32, prefix: Prefix<'_>) -> usize {
        if parent == 0 {
            0
        } else {
            prefix.bit(self.len(parent))
        }
    }

    /// The slot of the entry behind that of a prefix, longer prefixes first; of the first one if the prefix has no
    /// entry (lpm_trie.c: `trie_get_next_key`).
    pub(super) fn next(&self, after: Option<Prefix<'_>>) -> Option<u32> {
        let root = self.trie.root.load(Ordering::Relaxed);
        let Some(path) = after
            .map(|prefix| (self.way(prefix), prefix))
            .filter(|(path, prefix)| self.is_exact(path, *prefix) && self.value(path.node).is_some())
            .map(|(path, _)| path)
        else {
            return self.leftmost(root);
        };
        let mut node = path.node;
        for parent in path.above[..path.len].iter().rev().copied() {
            let right = self.child(parent, 1);
            if self.child(parent, 0) == node && right != 0 {
                return self.leftmost(right);
            }
            if let Some(slot) = self.value(parent) {
                return Some(slot);
            }
            node = parent;
        }
        None
    }

    fn leftmost(&self, start: u32) -> Option<u32> {
        let mut found = None;
        let mut node = start;
        while node != 0 {
            found = self.value(node).or(found);
            node = match self.child(node, 0) {
                0 => self.child(node, 1),
                left => left,
            };
        }
        found
    }
}
