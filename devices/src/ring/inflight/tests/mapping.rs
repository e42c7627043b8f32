//! How buffers are made and taken.

use super::*;

fn refusal(file: &File, offset: u64, size: u64, layout: InflightLayout) -> InflightError {
    InflightBuffer::map(file.try_clone().unwrap(), offset, size, layout).unwrap_err()
}

#[test]
fn u16_a_new_buffer_is_empty_and_keeps_its_length() {
    let file = PACKED.create().unwrap();
    let mut octets = vec![1; PACKED.len() as usize];
    file.read_exact_at(&mut octets, 0).unwrap();
    assert!(octets.iter().all(|octet| *octet == 0));
    assert_eq!(file.metadata().unwrap().len(), PACKED.len());
    file.set_len(0).unwrap_err();
    file.set_len(1 << 20).unwrap_err();
}

#[test]
fn u16_buffers_that_do_not_fit_are_refused() {
    let file = SPLIT.create().unwrap();
    let len = SPLIT.len();
    for layout in [
        InflightLayout { queues: 0, ..SPLIT },
        InflightLayout {
            queue_size: 0,
            ..SPLIT
        },
        InflightLayout {
            queue_size: 32769,
            ..SPLIT
        },
    ] {
        assert!(matches!(
            refusal(&file, 0, 1 << 40, layout),
            InflightError::BadLayout { .. }
        ));
        assert!(matches!(layout.create(), Err(InflightError::BadLayout { .. })));
    }
    assert!(matches!(
        refusal(&file, 0, len - 1, SPLIT),
        InflightError::TooShort { .. }
    ));
    for offset in [1, 4096, 1 << 63, u64::MAX] {
        assert!(matches!(
            refusal(&file, offset, len, SPLIT),
            InflightError::ShortFile(_)
        ));
    }
    let long = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    long.set_len(1 << 16).unwrap();
    assert!(matches!(refusal(&long, 64, len, SPLIT), InflightError::Map(_)));
    let (pipe, _) = io::pipe().unwrap();
    let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    assert!(matches!(refusal(&pipe, 0, len, SPLIT), InflightError::Map(_)));
    InflightBuffer::map(long, 4096, len + 1, SPLIT).unwrap();
}

#[test]
fn u16_only_queues_that_the_buffer_has_room_for_are_in_it() {
    let (_file, split) = buffer(SPLIT);
    assert!(SplitInflight::open(&split, 1, 8, 0).is_some());
    assert!(SplitInflight::open(&split, 2, 8, 0).is_none());
    assert!(SplitInflight::open(&split, usize::MAX, 8, 0).is_none());
    assert!(SplitInflight::open(&split, 0, 16, 0).is_none());
    assert!(SplitInflight::open(&split, 0, 1 << 16, 0).is_none());
    let (_file, packed) = buffer(PACKED);
    assert!(SplitInflight::open(&packed, 0, 8, 0).is_none());
    let ring: Vec<Slot> = (0..9).map(|_| Default::default()).collect();
    assert!(PackedInflight::open(&split, 0, &ring[..8], Place::FIRST).is_none());
    assert!(PackedInflight::open(&packed, 0, &ring, Place::FIRST).is_none());
    assert!(PackedInflight::open(&packed, 0, &ring[..7], Place::FIRST).is_some());
}

#[test]
fn a_buffer_that_is_taken_back_does_no_harm() {
    sigbus::install().unwrap();
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    file.set_len(SPLIT.len()).unwrap();
    let buffer = InflightBuffer::map(file.try_clone().unwrap(), 0, SPLIT.len(), SPLIT).unwrap();
    file.set_len(0).unwrap();
    let mut books = SplitInflight::open(&Arc::new(buffer), 1, 8, 0).unwrap();
    books.take(3);
    books.complete(3);
    books.before_publish();
    books.after_publish(1);
}
