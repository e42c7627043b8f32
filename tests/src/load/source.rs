//! Generates the frames of one transmit queue.

use super::error::LoadError;
use super::frame::{HEADER, TAG, TCP_TEMPLATE, Tag, Template, UDP_TEMPLATE};
use super::queue::Queue;
use super::ring::DriverRing;

/// How many frames ahead a buffer is fetched.
const AHEAD: usize = 12;

/// The flows of one transmit queue.
#[derive(Debug)]
pub struct Source {
    /// One for each shape, of each flow.
    templates: Vec<Template>,
    /// The next sequence number of each flow.
    next: Vec<u64>,
    /// The order in which shapes follow one another, as indexes.
    mix: Vec<usize>,
    shapes: usize,
    first_flow: u16,
    step: u16,
    at_flow: usize,
    at_mix: usize,
    /// A sequence number without these bits is of a frame with the content that its tag says.
    unchecked: u64,
    frame: Vec<u8>,
    /// Frames that were put into the ring.
    pub sent: u64,
    /// Frames that found it full.
    pub refused: u64,
}

impl Source {
    /// Sends flows `first_flow`, `first_flow + step` and so on, for each the templates of all shapes.
    pub fn new(
        templates: Vec<Template>,
        shapes: usize,
        mix: Vec<usize>,
        flows: (u16, u16),
        unchecked: u64,
    ) -> Source {
        Source {
            next: vec![0; templates.len() / shapes],
            templates,
            mix,
            shapes,
            first_flow: flows.0,
            step: flows.1,
            at_flow: 0,
            at_mix: 0,
            unchecked,
            frame: Vec::new(),
            sent: 0,
            refused: 0,
        }
    }

    /// Takes back what the device has sent, and puts up to `count` frames. Gives how many.
    #[inline]
    pub fn generate<R: DriverRing>(
        &mut self,
        queue: &mut Queue<R>,
        count: usize,
    ) -> Result<usize, LoadError> {
        if queue.ring.room() < count {
            queue.ring.reclaim()?;
        }
        let room = queue.ring.room();
        let fits = count.min(room);
        self.refused += (count - fits) as u64;
        for ahead in 0..fits.min(AHEAD) {
            fetch(queue, ahead);
        }
        for left in (0..fits).rev() {
            if left >= AHEAD {
                fetch(queue, AHEAD);
            }
            self.put_next(queue);
        }
        queue.publish()?;
        Ok(fits)
    }

    /// Puts a frame that the device is to be shown later, and says which; `None` if the ring is full.
    pub fn next<R: DriverRing>(&mut self, queue: &mut Queue<R>) -> Result<Option<Tag>, LoadError> {
        if queue.ring.room() == 0 {
            queue.ring.reclaim()?;
        }
        if queue.ring.room() == 0 {
            self.refused += 1;
            return Ok(None);
        }
        Ok(Some(self.put_next(queue)))
    }

    /// As [`Self::next`], with the flow and the sequence number of a frame that came; false if the ring is full.
    pub fn answer<R: DriverRing>(&mut self, queue: &mut Queue<R>, flow: usize, sequence: u64) -> bool {
        if queue.ring.room() == 0 {
            self.refused += 1;
            return false;
        }
        self.put(queue, flow, sequence);
        true
    }

    #[inline]
    fn put_next<R: DriverRing>(&mut self, queue: &mut Queue<R>) -> Tag {
        let flow = self.at_flow;
        self.at_flow = if flow + 1 == self.next.len() { 0 } else { flow + 1 };
        self.put(queue, flow, self.next[flow])
    }

    /// Puts a frame into a ring with room.
    #[inline]
    fn put<R: DriverRing>(&mut self, queue: &mut Queue<R>, flow: usize, sequence: u64) -> Tag {
        self.next[flow] = sequence + 1;
        let shape = self.mix[self.at_mix];
        self.at_mix = if self.at_mix + 1 == self.mix.len() {
            0
        } else {
            self.at_mix + 1
        };
        let template = &self.templates[self.shapes * flow + shape];
        let tag = Tag::new(self.first_flow + self.step * flow as u16, sequence);
        let at = queue.buffers.at(queue.ring.id(0));
        let area = &queue.buffers.area;
        let tagged = |octets: &mut [u8]| {
            let at = HEADER + template.shape.tag_at();
            octets[at..at + TAG].copy_from_slice(&tag.0.to_ne_bytes());
        };
        // Two copies of a known length each, of which the first stays within a line.
        if template.shape.segment.is_none() {
            let mut octets: [u8; UDP_TEMPLATE] = *template.octets.first_chunk().unwrap_or(&[0; UDP_TEMPLATE]);
            tagged(&mut octets);
            area.write(at, &octets);
        } else {
            let mut octets: [u8; TCP_TEMPLATE] = template.octets;
            tagged(&mut octets);
            area.write(at, &octets);
        }
        if sequence & self.unchecked == 0 {
            template.whole(tag, &mut self.frame);
            area.write(at + HEADER, &self.frame);
        }
        let len = (HEADER + template.shape.len) as u32;
        queue.ring.put(area.guest(at), len);
        self.sent += 1;
        tag
    }
}

#[inline]
fn fetch<R: DriverRing>(queue: &Queue<R>, ahead: usize) {
    let at = queue.buffers.at(queue.ring.id(ahead));
    queue.buffers.area.prefetch_to_write(at);
}
