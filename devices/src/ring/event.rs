//! The areas in which each side of a packed ring says when it wants to be notified (virtio 1.3, 2.8.10 and 2.8.14).

use super::place::Place;

const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const DESC: u16 = 2;
const FLAGS: u16 = 3;

/// When a side wants to be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Whenever there is something new.
    Always,
    /// Never.
    Never,
    /// When the other side passes this place. With VIRTIO_F_EVENT_IDX only.
    At(Place),
}

impl Event {
    /// What the four octets of an area say. A value that has no meaning asks for every notification.
    #[inline]
    pub fn from_area(area: u32, event_idx: bool) -> Event {
        match (area >> 16) as u16 & FLAGS {
            DISABLE => Event::Never,
            DESC if event_idx => Event::At(Place::from_bits(area as u16)),
            _ => Event::Always,
        }
    }

    /// Whether a step from one place to another is to be told.
    #[inline]
    pub fn is_met(self, from: Place, to: Place, size: u16) -> bool {
        match self {
            Event::Always => true,
            Event::Never => false,
            Event::At(place) => from.distance_to(place, size) < from.distance_to(to, size),
        }
    }
}

/// Which kicks a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kicks {
    /// One for whatever the driver makes available.
    All,
    /// None.
    None,
    /// One when the driver passes the place that the device has come to. With VIRTIO_F_EVENT_IDX only.
    Next,
}

impl Kicks {
    /// The four octets of the device's area, for a device that has come to this place. The place is always there, although
    /// the driver minds it in one of the three cases only: it is what the next device goes on from if this one is killed.
    #[inline]
    pub fn area(self, place: Place) -> u32 {
        let flags = match self {
            Kicks::All => ENABLE,
            Kicks::None => DISABLE,
            Kicks::Next => DESC,
        };
        u32::from(place.bits()) | u32::from(flags) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_reads_in_an_area_what_the_device_wrote() {
        let place = Place {
            index: 77,
            wrap: true,
        };
        let cases = [
            (Kicks::All, Event::Always, 0x804d),
            (Kicks::None, Event::Never, 0x1_804d),
            (Kicks::Next, Event::At(place), 0x2_804d),
        ];
        for (kicks, event, area) in cases {
            assert_eq!(kicks.area(place), area);
            assert_eq!(Event::from_area(area, true), event);
            assert_eq!(Place::from_bits(area as u16), place);
        }
    }

    #[test]
    fn values_without_a_meaning_ask_for_every_notification() {
        let at = Kicks::Next.area(Place::FIRST);
        assert_eq!(Event::from_area(at, false), Event::Always);
        assert_eq!(Event::from_area(0x3_0000, true), Event::Always);
        assert_eq!(Event::from_area(0xfffd_0000, true), Event::Never, "reserved bits");
    }

    #[test]
    fn a_place_is_met_by_the_step_over_it_in_the_same_round() {
        const SIZE: u16 = 5;
        let place = |step: u16| Place::FIRST.after(step / 2, SIZE).after(step - step / 2, SIZE);
        for from in 0..2 * SIZE {
            for slots in 0..=SIZE {
                for event in 0..2 * SIZE {
                    let offset = (event + 2 * SIZE - from) % (2 * SIZE);
                    let met =
                        Event::At(place(event)).is_met(place(from), place(from).after(slots, SIZE), SIZE);
                    assert_eq!(met, offset < slots, "{from} + {slots}, event {event}");
                }
            }
        }
    }
}
