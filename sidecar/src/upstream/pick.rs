//! Which endpoint gets a request, by the algorithm that policy names, among those that are fit.
//!
//! Power of two choices over peak EWMA, or over requests under way alone, or each in turn. Where none is fit, all are used:
//! a wrong guess costs less than no answer. Unless policy lets all be left out (`maxEjected: 1`): then nobody is.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use outrider_shared::traffic::Balancing;
use rand::RngCore as _;
use rand::rngs::SmallRng;

use super::balance::two_of;
use super::endpoint::Endpoint;
use super::share::Share;

/// Pairs drawn before all endpoints are looked at in order.
const DRAWS_MAX: usize = 4;

impl Share {
    /// Chooses an endpoint that is not among `tried`; those that are left out only where all are, tried or not: one that is not
    /// fit gets no second attempts because the only fit one has had the first.
    pub fn choose(&self, tried: &[SocketAddr], rng: &mut SmallRng, now: Instant) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints();
        if endpoints.is_empty() {
            return None;
        }
        let fit = |e: &Rc<Endpoint>| e.is_fit(now) && !tried.contains(&e.address);
        let balancing = self.balancing();
        if balancing == Balancing::RoundRobin {
            let next = self.turn.get();
            self.turn.set(next.wrapping_add(1));
            let in_turn =
                (0..endpoints.len()).map(|step| &endpoints[next.wrapping_add(step) % endpoints.len()]);
            return match in_turn.clone().find(|e| fit(e)) {
                None if endpoints.iter().any(|e| e.is_fit(now)) => None,
                None => {
                    in_turn.clone().find(|e| !tried.contains(&e.address) && !e.is_barred()).map(Rc::clone)
                }
                Some(endpoint) => Some(Rc::clone(endpoint)),
            };
        }
        let cost = |e: &Rc<Endpoint>| match balancing {
            Balancing::LeastRequest => f64::from(e.in_flight()),
            Balancing::PeakEwma | Balancing::RoundRobin => e.cost(now),
        };
        for _ in 0..DRAWS_MAX {
            let (first, second) = two_of(endpoints.len(), rng.next_u64());
            let (first, second) = (&endpoints[first], &endpoints[second]);
            match (fit(first), fit(second)) {
                (true, true) => {
                    return Some(Rc::clone(if cost(second) < cost(first) { second } else { first }));
                }
                (true, false) => return Some(Rc::clone(first)),
                (false, true) => return Some(Rc::clone(second)),
                (false, false) => {}
            }
        }
        let cheapest = |a: &&Rc<Endpoint>, b: &&Rc<Endpoint>| cost(a).total_cmp(&cost(b));
        let untried = || endpoints.iter().filter(|e| !tried.contains(&e.address));
        match untried().filter(|e| fit(e)).min_by(cheapest) {
            None if endpoints.iter().any(|e| e.is_fit(now)) => None,
            None => untried().filter(|e| !e.is_barred()).min_by(cheapest).map(Rc::clone),
            Some(endpoint) => Some(Rc::clone(endpoint)),
        }
    }
}
