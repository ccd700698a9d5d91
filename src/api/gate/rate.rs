//! How many requests one key, or one address, may make: a token bucket for each.
//!
//! The unit is a request, whatever is in it: what a batch may cost is bounded by its size (`METRICS_BATCH_BYTES_MAX`). IPv6
//! addresses count by their /64, which is what one customer has.
//!
//! **Bounds.** [`BUCKETS_MAX`] buckets of some 100 bytes. When there are more keys and addresses at a time, newcomers share
//! [`SHARED_BUCKETS`] buckets by their hash: a flood from ever new addresses is limited as a few are, and costs no memory.
//!
//! **Owner.** Connections take from the buckets; a shard of the map is locked for that. The sweeper, a thread, removes those
//! that are full again, as a bucket that is full says no more than none.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock, MonotonicClock, Reference};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::config::access::Rate;

/// Most buckets, one each for a key or an address: 10 MB.
const BUCKETS_MAX: usize = 100_000;
/// Buckets that are shared by those who find no room.
const SHARED_BUCKETS: usize = 256;
/// How often full buckets are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Those with this key.
    Key(u64),
    /// Those from this address, or from this network of IPv6.
    Address(IpAddr),
    /// Those through a Unix socket that nobody says more of.
    Local,
}

impl Who {
    /// Who sends from that address; `None` is a Unix socket.
    pub fn at(address: Option<IpAddr>) -> Who {
        match address {
            None => Who::Local,
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() >> 64 << 64;
                Who::Address(IpAddr::V6(network.into()))
            }
            Some(address) => Who::Address(address),
        }
    }
}

/// The buckets.
struct Buckets {
    map: DashMap<Who, InMemoryState>,
    max: usize,
    /// Entries of the map, and perhaps a few that are being added.
    count: AtomicUsize,
    shared: Vec<InMemoryState>,
    hasher: RandomState,
}

impl Buckets {
    fn new(max: usize) -> Buckets {
        Buckets {
            map: DashMap::new(),
            max,
            count: AtomicUsize::new(0),
            shared: (0..SHARED_BUCKETS).map(|_| InMemoryState::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Removes the buckets that are full at that time.
    fn sweep(&self, now: Nanos) {
        self.map.retain(|_, bucket| {
            // The only way to look at one: an update that is called off. What is in it is when it will be full.
            let full_at = bucket.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
            full_at.unwrap_err().is_some_and(|at| at > now)
        });
        // Relaxed: a bound that is reached a few entries early or late is one too.
        self.count.store(self.map.len(), Ordering::Relaxed);
    }
}

/// The limiter's hold on the buckets.
struct Store(Arc<Buckets>);

impl StateStore for Store {
    type Key = Who;

    fn measure_and_replace<T, F, E>(&self, who: &Who, take: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Store(buckets) = self;
        let one = NotKeyed::NonKey;
        if let Some(bucket) = buckets.map.get(who) {
            return bucket.measure_and_replace(&one, take);
        }
        if buckets.count.fetch_add(1, Ordering::Relaxed) >= buckets.max {
            buckets.count.fetch_sub(1, Ordering::Relaxed);
            let index = buckets.hasher.hash_one(who) as usize % buckets.shared.len();
            return buckets.shared[index].measure_and_replace(&one, take);
        }
        buckets
            .map
            .entry(*who)
            .or_default()
            .measure_and_replace(&one, take)
    }
}

/// The limit.
pub struct Limiter<C: Clock + Clone = MonotonicClock> {
    limiter: RateLimiter<Who, Store, C, governor::middleware::NoOpMiddleware<C::Instant>>,
    buckets: Arc<Buckets>,
    clock: C,
    start: C::Instant,
}

impl Limiter {
    /// A limit, and its sweeper.
    pub fn start(rate: Rate) -> std::io::Result<Arc<Limiter>> {
        let limiter = Arc::new(Limiter::new(rate, BUCKETS_MAX, MonotonicClock));
        let swept = Arc::downgrade(&limiter);
        std::thread::Builder::new()
            .name("rate-sweeper".into())
            .spawn(move || {
                while let Some(limiter) = swept.upgrade() {
                    limiter.sweep();
                    drop(limiter);
                    std::thread::sleep(SWEEP_INTERVAL);
                }
            })?;
        Ok(limiter)
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn new(rate: Rate, buckets_max: usize, clock: C) -> Limiter<C> {
        let quota = Quota::with_period(rate.period)
            .expect("a rate's period is not zero")
            .allow_burst(rate.burst);
        let buckets = Arc::new(Buckets::new(buckets_max));
        // Before the limiter's own start: a bucket is then swept a moment late, never early.
        let start = clock.now();
        Limiter {
            limiter: RateLimiter::new(quota, Store(Arc::clone(&buckets)), clock.clone()),
            buckets,
            clock,
            start,
        }
    }

    /// Takes one request out of a bucket, or tells after how many seconds there is one in it again.
    pub fn take(&self, who: Who) -> Result<(), u64> {
        self.limiter.check_key(&who).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            // Whole seconds, and not too few: who comes back too early is refused again.
            wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
        })
    }

    fn sweep(&self) {
        self.buckets.sweep(self.clock.now().duration_since(self.start));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limiter(
        per_second: u32,
        burst: u32,
        buckets_max: usize,
    ) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = Rate {
            period: Duration::from_secs(1) / per_second,
            burst: NonZeroU32::new(burst).unwrap(),
        };
        (Limiter::new(rate, buckets_max, clock.clone()), clock)
    }

    fn at(address: &str) -> Who {
        Who::at(Some(address.parse().unwrap()))
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (limiter, clock) = limiter(2, 3, 10);
        let who = at("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(limiter.take(who), Ok(()));
        }
        assert_eq!(limiter.take(who), Err(1));
        assert_eq!(limiter.take(at("192.0.2.2")), Ok(()), "another address");
        clock.advance(Duration::from_millis(500));
        assert_eq!(limiter.take(who), Ok(()));
        assert_eq!(limiter.take(who), Err(1));
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds() {
        let clock = FakeRelativeClock::default();
        let rate = Rate {
            period: Duration::from_millis(2500),
            burst: NonZeroU32::MIN,
        };
        let limiter = Limiter::new(rate, 10, clock.clone());
        assert_eq!(limiter.take(Who::Local), Ok(()));
        assert_eq!(limiter.take(Who::Local), Err(3));
        clock.advance(Duration::from_millis(500));
        assert_eq!(limiter.take(Who::Local), Err(2));
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    #[test]
    fn the_number_of_buckets_is_bounded_and_newcomers_are_limited_all_the_same() {
        let (limiter, clock) = limiter(1, 1, 10);
        let passed = (0..10_000u64)
            .filter(|key| limiter.take(Who::Key(*key)).is_ok())
            .count();
        assert!(limiter.buckets.map.len() <= 10);
        assert!(passed <= 10 + SHARED_BUCKETS, "{passed} of 10,000 passed");
        limiter.sweep();
        assert_eq!(limiter.buckets.map.len(), 10, "none is full yet");
        clock.advance(Duration::from_secs(2));
        limiter.sweep();
        assert_eq!(limiter.buckets.map.len(), 0);
        assert_eq!(limiter.take(Who::Key(1)), Ok(()), "there is room again");
        assert_eq!(limiter.buckets.map.len(), 1);
    }
}
