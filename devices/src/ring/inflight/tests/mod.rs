mod layout;
mod mapping;
mod packed_ring;
mod split_ring;

use std::mem::offset_of;
use std::os::unix::fs::FileExt;

use super::super::place::Place;
use super::*;

const SPLIT: InflightLayout = InflightLayout {
    queues: 2,
    queue_size: 8,
    packed: false,
};
const PACKED: InflightLayout = InflightLayout {
    packed: true,
    ..SPLIT
};

fn buffer(layout: InflightLayout) -> (File, Arc<InflightBuffer>) {
    let file = layout.create().unwrap();
    let map = InflightBuffer::map(file.try_clone().unwrap(), 0, layout.len(), layout);
    (file, Arc::new(map.unwrap()))
}
