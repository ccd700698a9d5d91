//! Whether two groups of measurements differ, by the order of their values alone.
//!
//! The rank test of Mann and Whitney (Wilcoxon's rank sum), exact: of all ways to deal the same values to two groups of these
//! sizes, the share in which the ranks of one sum up to something at least as far from the mean as they do. Nothing is assumed
//! of how values are distributed, which for latencies is just as well. Values that are equal share the mean of their
//! ranks; the count is exact then, too.
//!
//! Bounds: groups of [`RUNS_MAX`], so a test is some ten million additions.

/// Most values in a group.
pub const RUNS_MAX: usize = 50;
/// A difference that chance makes at most this often is one.
pub const CHANCE_MAX: f64 = 0.05;

/// How often chance alone makes groups differ at least as much as these (two-sided).
pub fn chance(one: &[f64], other: &[f64]) -> f64 {
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(one, other);
    let sum: usize = ranks[..one.len()].iter().sum();
    // Of doubled ranks, by two groups: the mean sum of the first, times the number of all, stays whole.
    let (all, total) = (ranks.len(), ranks.iter().sum::<usize>());
    let distance = |sum: usize| (sum * all).abs_diff(one.len() * total);
    let ways = ways(&ranks, one.len());
    let far: f64 = ways
        .iter()
        .enumerate()
        .filter(|(other, _)| distance(*other) >= distance(sum))
        .map(|(_, ways)| ways)
        .sum();
    (far / ways.iter().sum::<f64>()).min(1.0)
}

/// The smallest [`chance`] that groups of these sizes can have: all of one below all of the other.
pub fn chance_min(one: usize, other: usize) -> f64 {
    let deals: f64 = (1..=one).map(|at| (other + at) as f64 / at as f64).product();
    (2.0 / deals).min(1.0)
}

/// From where to where the second group's values are, as a multiple of the first's, with 95 % confidence or a little more: the
/// interval of Hodges and Lehmann, of all quotients between the two. None if that cannot be told.
pub fn interval(first: &[f64], second: &[f64]) -> Option<(f64, f64)> {
    if chance_min(first.len(), second.len()) > CHANCE_MAX || first.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let pairs = second
        .iter()
        .flat_map(|second| first.iter().map(move |first| second / first));
    let mut quotients: Vec<f64> = pairs.collect();
    quotients.sort_by(f64::total_cmp);
    let cut = cut(first.len(), second.len());
    Some((quotients[cut], quotients[quotients.len() - 1 - cut]))
}

/// How many quotients are left out at each end: those that chance puts beyond the truth in at most 2.5 % of all cases.
fn cut(first: usize, second: usize) -> usize {
    let ranks: Vec<usize> = (1..=first + second).collect();
    let ways = ways(&ranks, first);
    let all: f64 = ways.iter().sum();
    let least = first * (first + 1) / 2;
    let mut below = 0.0;
    let most = ways[least..].iter().take_while(|ways| {
        below += *ways;
        below / all <= CHANCE_MAX / 2.0
    });
    // With U of at most `count - 1` in the tail, the interval begins at the quotient of that place.
    most.count().saturating_sub(1)
}

/// Ranks of all values, the first group's first, times two: halves are whole then.
fn doubled_ranks(one: &[f64], other: &[f64]) -> Vec<usize> {
    let values: Vec<f64> = one.iter().chain(other).copied().collect();
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        2 * below + equal + 1
    };
    values.iter().map(rank).collect()
}

/// In how many ways so many of the ranks have each sum.
fn ways(ranks: &[usize], chosen: usize) -> Vec<f64> {
    let mut largest: Vec<usize> = ranks.to_vec();
    largest.sort_unstable_by(|one, other| other.cmp(one));
    let sums = largest[..chosen].iter().sum::<usize>() + 1;
    let mut ways = vec![vec![0.0; sums]; chosen + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for count in (1..=chosen).rev() {
            let (fewer, more) = ways.split_at_mut(count);
            if let Some(to) = more[0].get_mut(*rank..) {
                to.iter_mut()
                    .zip(&fewer[count - 1])
                    .for_each(|(to, from)| *to += from);
            }
        }
    }
    ways.pop().expect("it has one more than were chosen")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(is: f64, truth: f64) -> bool {
        (is - truth).abs() < 5e-7
    }

    #[test]
    fn groups_that_do_not_overlap_have_the_chance_that_counting_gives() {
        let group = |from: u32, count: u32| (from..from + count).map(f64::from).collect::<Vec<_>>();
        for (one, other, truth) in [
            (1, 1, 1.0),
            (3, 3, 2.0 / 20.0),
            (3, 5, 2.0 / 56.0),
            (4, 4, 2.0 / 70.0),
            (5, 5, 2.0 / 252.0),
        ] {
            assert!(
                is_near(chance(&group(0, one), &group(100, other)), truth),
                "{one} against {other}"
            );
            assert!(
                is_near(chance(&group(100, one), &group(0, other)), truth),
                "{one} against {other}"
            );
            assert!(
                is_near(chance_min(one as usize, other as usize), truth),
                "{one} against {other}"
            );
        }
        assert!(chance(&group(0, 50), &group(100, 50)) < 1e-28);
    }

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        // Ranks 1.5, 1.5 and 4; 4, 4 and 6.
        assert_eq!(
            doubled_ranks(&[1.0, 1.0, 2.0], &[2.0, 2.0, 3.0]),
            [3, 3, 8, 8, 8, 12]
        );
    }

    #[test]
    fn known_values_of_the_tables() {
        // From tables of the exact distribution: U = 1 of 16 is 4 of 70; U = 2 of 25 is 8 of 252; U = 5 of 25 is 38 of 252.
        assert!(is_near(
            chance(&[1.0, 2.0, 3.0, 5.0], &[4.0, 6.0, 7.0, 8.0]),
            4.0 / 70.0
        ));
        assert!(is_near(
            chance(&[1.0, 2.0, 3.0, 4.0, 7.0], &[5.0, 6.0, 8.0, 9.0, 10.0]),
            8.0 / 252.0
        ));
        assert!(is_near(
            chance(&[1.0, 2.0, 3.0, 4.0, 10.0], &[5.0, 6.0, 7.0, 8.0, 9.0]),
            38.0 / 252.0
        ));
    }

    /// Dealing the values in every way, one by one.
    fn by_hand(one: &[f64], other: &[f64]) -> f64 {
        let ranks = doubled_ranks(one, other);
        let mean = ranks.iter().sum::<usize>() as f64 * one.len() as f64 / ranks.len() as f64;
        let far = |sum: usize| (sum as f64 - mean).abs();
        let is = far(ranks[..one.len()].iter().sum());
        let (mut all, mut beyond) = (0u32, 0u32);
        for deal in 0u32..1 << ranks.len() {
            if deal.count_ones() as usize == one.len() {
                let sum = (0..ranks.len())
                    .filter(|at| deal >> at & 1 == 1)
                    .map(|at| ranks[at])
                    .sum();
                all += 1;
                beyond += u32::from(far(sum) >= is - 1e-9);
            }
        }
        f64::from(beyond) / f64::from(all)
    }

    #[test]
    fn it_agrees_with_dealing_in_every_way_also_where_values_are_equal() {
        let mut state = 7u64;
        for _ in 0..200 {
            let mut values = |count: u64| {
                let next = |state: &mut u64| {
                    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (*state >> 33) % 9
                };
                (0..count).map(|_| next(&mut state) as f64).collect::<Vec<f64>>()
            };
            let (one, other) = (values(4), values(5));
            assert!(
                is_near(chance(&one, &other), by_hand(&one, &other)),
                "{one:?} {other:?}"
            );
        }
        assert_eq!(chance(&[3.0; 4], &[3.0; 4]), 1.0);
    }

    #[test]
    fn the_interval_holds_one_unless_the_groups_differ() {
        let (four, more) = ([100.0, 101.0, 102.0, 103.0], [110.0, 111.0, 112.0, 113.0]);
        let (from, to) = interval(&four, &more).unwrap();
        assert!(
            is_near(from, 110.0 / 103.0) && is_near(to, 113.0 / 100.0),
            "{from} {to}"
        );
        let (from, to) = interval(&four, &[99.0, 100.5, 102.5, 104.0]).unwrap();
        assert!(from < 1.0 && to > 1.0, "{from} {to}");
        assert_eq!(
            interval(&four[..3], &more[..3]),
            None,
            "three against three tell nothing"
        );
        assert_eq!(interval(&[0.0; 4], &more), None, "nothing is a multiple of 0");
    }

    #[test]
    fn the_interval_leaves_out_what_the_tables_say() {
        // Critical values of U at 5 %, two-sided: 4,4: 0; 5,5: 2; 6,6: 5; 8,8: 13; 10,10: 23.
        for (size, critical) in [(4, 0), (5, 2), (6, 5), (8, 13), (10, 23)] {
            assert_eq!(cut(size, size), critical, "{size}");
        }
    }
}
