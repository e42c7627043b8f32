//! When a source should go to another worker, and to which.

use super::source::Token;

/// What a move must at least take off the busiest worker, as a part of a processor: less is not worth the disturbance.
const GAIN: f64 = 0.1;

/// What a source costs its worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The source.
    pub token: Token,
    /// Who serves it.
    pub worker: usize,
    /// As a part of a processor.
    pub load: f64,
    /// It stays where it is.
    pub fixed: bool,
}

/// The one move that helps the busiest worker most: a source and its new worker. `busy` is the part of the time that each
/// worker has worked.
pub fn best_move(busy: &[f64], sources: &[Cost]) -> Option<(Token, usize)> {
    let by_load = |(_, a): &(usize, &f64), (_, b): &(usize, &f64)| a.total_cmp(b);
    let (from, most) = busy.iter().enumerate().max_by(by_load)?;
    let (to, least) = busy.iter().enumerate().min_by(by_load)?;
    let after = |cost: &Cost| (most - cost.load).max(least + cost.load);
    sources
        .iter()
        .filter(|cost| cost.worker == from && !cost.fixed && from != to)
        .min_by(|a, b| after(a).total_cmp(&after(b)))
        .filter(|cost| after(cost) <= most - GAIN)
        .map(|cost| (cost.token, to))
}

#[cfg(test)]
mod tests {
    use netkit::Ifindex;

    use super::*;

    fn cost(device: u32, worker: usize, load: f64) -> Cost {
        Cost {
            token: Token::new(Ifindex(device), 0),
            worker,
            load,
            fixed: false,
        }
    }

    #[test]
    fn the_move_that_evens_out_best_is_chosen() {
        let sources = [cost(1, 0, 0.5), cost(2, 0, 0.4), cost(3, 0, 0.1), cost(4, 1, 0.2)];
        assert_eq!(best_move(&[1.0, 0.2], &sources), Some((sources[1].token, 1)));
    }

    #[test]
    fn a_source_that_fills_a_worker_alone_stays() {
        assert_eq!(best_move(&[1.0, 0.0], &[cost(1, 0, 1.0)]), None);
        assert_eq!(
            best_move(&[1.0, 0.0], &[cost(1, 0, 0.95), cost(2, 0, 0.05)]),
            None
        );
    }

    #[test]
    fn workers_that_are_all_as_busy_keep_what_they_have() {
        let sources = [cost(1, 0, 0.5), cost(2, 0, 0.5), cost(3, 1, 0.9)];
        assert_eq!(best_move(&[1.0, 0.9], &sources), None);
        assert_eq!(best_move(&[1.0], &sources), None);
        assert_eq!(best_move(&[], &[]), None);
    }

    #[test]
    fn a_source_that_was_put_by_hand_stays() {
        let put = Cost {
            fixed: true,
            ..cost(1, 0, 0.5)
        };
        assert_eq!(best_move(&[1.0, 0.0], &[put]), None);
    }

    #[test]
    fn repeated_moves_come_to_an_end() {
        let mut sources: Vec<Cost> = (0..16).map(|n| cost(n, 0, 0.01 * f64::from(n))).collect();
        let busy = |sources: &[Cost]| {
            let of = |worker| {
                sources
                    .iter()
                    .filter(|it| it.worker == worker)
                    .map(|it| it.load)
                    .sum()
            };
            [of(0), of(1), of(2)]
        };
        let mut moves = 0;
        while let Some((token, to)) = best_move(&busy(&sources), &sources) {
            let moved = sources.iter_mut().find(|it| it.token == token).unwrap();
            moved.worker = to;
            moves += 1;
            assert!(moves < 100, "sources go round and round");
        }
        let busy = busy(&sources);
        let (most, least) = (
            busy.iter().cloned().fold(0.0, f64::max),
            busy.iter().cloned().fold(9.0, f64::min),
        );
        assert!(most - least < 0.25, "{busy:?}");
    }
}
