//! Which ids a driver may put, and which the device has.

use super::RingError;

/// The ids of a ring's buffers in the order in which they become free.
///
/// `order` is a circle: from `put` on lie the free ids, oldest first. An id that comes back is written where the next
/// one is due, over an id that was put before, so that nothing is ever moved. A device that works in order leaves the
/// circle as it was made: 0, 1, 2 and so on.
#[derive(Debug)]
pub struct Ids {
    order: Box<[u16]>,
    outstanding: Box<[bool]>,
    put: usize,
    done: usize,
    room: usize,
}

impl Ids {
    /// Ids below `count`, all of them free.
    pub fn new(count: u16) -> Ids {
        Ids {
            order: (0..count).collect(),
            outstanding: vec![false; usize::from(count)].into(),
            put: 0,
            done: 0,
            room: usize::from(count),
        }
    }

    /// How many are free.
    #[inline]
    pub fn room(&self) -> usize {
        self.room
    }

    /// How many the device has.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.order.len() - self.room
    }

    /// The free id that is put `ahead` of the next one.
    #[inline]
    pub fn free(&self, ahead: usize) -> u16 {
        let (position, count) = (self.put + ahead, self.order.len());
        // Never further ahead than there are ids.
        self.order[if position >= count {
            (position - count).min(count - 1)
        } else {
            position
        }]
    }

    /// Puts the next free id.
    #[inline]
    pub fn put(&mut self) -> u16 {
        assert!(self.room > 0, "a buffer was put into a full ring");
        let id = self.order[self.put];
        self.outstanding[usize::from(id)] = true;
        self.put = self.after(self.put);
        self.room -= 1;
        id
    }

    /// The id that the device uses next if it works in order.
    #[inline]
    pub fn oldest(&self) -> u16 {
        self.order[self.done]
    }

    /// Whether the device has this id.
    #[inline]
    pub fn is_outstanding(&self, id: u16) -> bool {
        self.outstanding.get(usize::from(id)).is_some_and(|it| *it)
    }

    /// The device has used this id.
    #[inline]
    pub fn complete(&mut self, id: u16) -> Result<(), RingError> {
        match self.outstanding.get_mut(usize::from(id)) {
            Some(outstanding) if *outstanding => *outstanding = false,
            _ => return Err(RingError::NotOutstanding { id: u32::from(id) }),
        }
        self.order[self.done] = id;
        self.done = self.after(self.done);
        self.room += 1;
        Ok(())
    }

    #[inline]
    fn after(&self, position: usize) -> usize {
        if position + 1 == self.order.len() {
            0
        } else {
            position + 1
        }
    }
}
