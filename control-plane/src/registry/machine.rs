//! The pure machine: members, leases, claims to addresses, withdrawals.

mod member;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrider_shared::snapshot::{Endpoint, Version};
use outrider_shared::{ServiceId, SidecarId};

use member::Dial;
pub use member::Member;

/// A sidecar without a session stays published this long. 10 s: it reconnects within one or two after a blip, and a
/// caller that meets a dead one ejects it by itself.
pub const LEASE: Duration = Duration::from_secs(10);
/// After a start, endpoints from the store wait this long for their sidecars: longer than their longest backoff.
pub const RESTORED_LEASE: Duration = Duration::from_secs(30);
/// A withdrawal that some session does not acknowledge is answered after this time all the same.
pub const WITHDRAWAL_MAX: Duration = Duration::from_secs(4);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    Hello {
        sidecar: SidecarId,
        service: ServiceId,
        address: SocketAddr,
        serving: bool,
    },
    Announce {
        sidecar: SidecarId,
        serving: bool,
    },
    Withdraw {
        sidecar: SidecarId,
    },
    Disconnected {
        sidecar: SidecarId,
    },
    /// Policy gives a service another identity: what its members have proved counts no more.
    IdentityChanged {
        service: ServiceId,
    },
    /// How a dial went; `Err` says why in words.
    Dialled {
        sidecar: SidecarId,
        address: SocketAddr,
        outcome: Result<(), String>,
    },
    /// A session has taken everything up to this version. One that refuses a version goes on sending to what it left out.
    Acked {
        sidecar: SidecarId,
        version: Version,
    },
    /// The plan after a withdrawal was pushed with these sequences; each must be acknowledged.
    Pushed {
        sequences: BTreeMap<SidecarId, u64>,
    },
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// What is published has changed.
    Plan,
    Dial {
        sidecar: SidecarId,
        service: ServiceId,
        address: SocketAddr,
    },
    /// Tell the sidecar that all have taken it out.
    Withdrawn {
        sidecar: SidecarId,
    },
}

#[derive(Debug)]
struct Withdrawal {
    sidecar: SidecarId,
    /// `None` until the plan without it was pushed.
    waits: Option<BTreeMap<SidecarId, u64>>,
    until: Instant,
}

#[derive(Debug, Default)]
pub struct Machine {
    members: BTreeMap<SidecarId, Member>,
    withdrawals: Vec<Withdrawal>,
    acked: BTreeMap<SidecarId, u64>,
}

impl Machine {
    /// Endpoints that were published before a restart.
    pub fn restore(&mut self, endpoints: Vec<(ServiceId, Endpoint)>, now: Instant) {
        for (service, endpoint) in endpoints {
            let member = Member {
                service,
                address: endpoint.address,
                connected: false,
                serving: true,
                withdrawn: false,
                proved: true,
                acked: None,
                because: None,
                lease_until: Some(now + RESTORED_LEASE),
                dial: Dial::Done,
            };
            self.members.insert(endpoint.sidecar, member);
        }
    }

    pub fn members(&self) -> &BTreeMap<SidecarId, Member> {
        &self.members
    }

    /// The published endpoints by service.
    pub fn published(&self) -> Vec<(ServiceId, Vec<Endpoint>)> {
        let mut services: BTreeMap<&ServiceId, Vec<Endpoint>> = BTreeMap::new();
        for (sidecar, member) in self.members.iter().filter(|(_, member)| member.is_published()) {
            let endpoint = Endpoint { sidecar: sidecar.clone(), address: member.address };
            services.entry(&member.service).or_default().push(endpoint);
        }
        services.into_iter().map(|(service, endpoints)| (service.clone(), endpoints)).collect()
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let before = self.published();
        let mut outputs = self.apply(input, now);
        outputs.extend(self.due_dials(now));
        if self.published() != before && !outputs.contains(&Output::Plan) {
            outputs.insert(0, Output::Plan);
        }
        outputs
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_members = self.members.values().flat_map(|member| {
            let dial = match member.dial {
                Dial::Due { at, .. } if member.connected => Some(at),
                Dial::Due { .. } | Dial::UnderWay { .. } | Dial::Done => None,
            };
            [dial, member.lease_until]
        });
        of_members.flatten().chain(self.withdrawals.iter().map(|withdrawal| withdrawal.until)).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        let before = self.published();
        self.members.retain(|_, member| member.lease_until.is_none_or(|until| until > now));
        let mut outputs = self.finished_withdrawals(now);
        outputs.extend(self.due_dials(now));
        if self.published() != before && !outputs.contains(&Output::Plan) {
            outputs.insert(0, Output::Plan);
        }
        outputs
    }

    fn apply(&mut self, input: Input, now: Instant) -> Vec<Output> {
        match input {
            Input::Hello { sidecar, service, address, serving } => {
                self.hello(sidecar, service, address, serving, now);
                Vec::new()
            }
            Input::Announce { sidecar, serving } => {
                if let Some(member) = self.members.get_mut(&sidecar) {
                    member.serving = serving;
                }
                Vec::new()
            }
            Input::Withdraw { sidecar } => {
                if let Some(member) = self.members.get_mut(&sidecar) {
                    member.withdrawn = true;
                }
                if self.withdrawals.iter().any(|withdrawal| withdrawal.sidecar == sidecar) {
                    return Vec::new();
                }
                // One that is not published may have been until just now, with pushes still under way: it waits alike.
                self.withdrawals.push(Withdrawal { sidecar, waits: None, until: now + WITHDRAWAL_MAX });
                vec![Output::Plan]
            }
            Input::Disconnected { sidecar } => {
                self.acked.remove(&sidecar);
                if let Some(member) = self.members.get_mut(&sidecar) {
                    member.connected = false;
                    let (address, held) = (member.address, member.proved);
                    // One that has said farewell needs no lease.
                    member.lease_until = Some(if member.withdrawn { now } else { now + LEASE });
                    if held {
                        self.let_claimants_in(address, now);
                    }
                }
                self.withdrawals.retain(|withdrawal| withdrawal.sidecar != sidecar);
                for waits in self.withdrawals.iter_mut().filter_map(|withdrawal| withdrawal.waits.as_mut()) {
                    waits.remove(&sidecar);
                }
                self.finished_withdrawals(now)
            }
            Input::IdentityChanged { service } => {
                for member in self.members.values_mut().filter(|member| member.service == service) {
                    member.proved = false;
                    member.dial = Dial::Due { at: now, failures: 0 };
                }
                Vec::new()
            }
            Input::Dialled { sidecar, address, outcome } => {
                self.dialled(&sidecar, address, outcome, now);
                Vec::new()
            }
            Input::Acked { sidecar, version } => {
                let Some(member) = self.members.get_mut(&sidecar) else { return Vec::new() };
                member.acked = Some(version);
                let acked = self.acked.entry(sidecar).or_default();
                *acked = version.sequence.max(*acked);
                self.finished_withdrawals(now)
            }
            Input::Pushed { sequences } => {
                for withdrawal in self.withdrawals.iter_mut().filter(|withdrawal| withdrawal.waits.is_none())
                {
                    let mut waits = sequences.clone();
                    waits.remove(&withdrawal.sidecar);
                    withdrawal.waits = Some(waits);
                }
                self.finished_withdrawals(now)
            }
        }
    }

    fn hello(
        &mut self,
        sidecar: SidecarId,
        service: ServiceId,
        address: SocketAddr,
        serving: bool,
        now: Instant,
    ) {
        let known =
            self.members.get(&sidecar).filter(|known| known.address == address && known.service == service);
        let proved = known.is_some_and(|known| known.proved);
        let dial = if proved { Dial::Done } else { Dial::Due { at: now, failures: 0 } };
        let member = Member {
            service,
            address,
            connected: true,
            serving,
            withdrawn: false,
            proved,
            acked: None,
            because: None,
            lease_until: None,
            dial,
        };
        self.withdrawals.retain(|withdrawal| withdrawal.sidecar != sidecar);
        self.members.insert(sidecar, member);
    }

    /// Who has a session and has proved to be at `address`, beside `claimant`.
    fn holder(&self, address: SocketAddr, claimant: &SidecarId) -> Option<SidecarId> {
        let holds = |member: &Member| member.connected && member.proved && member.address == address;
        let mut others = self.members.iter().filter(|(sidecar, _)| *sidecar != claimant);
        others.find(|(_, member)| holds(member)).map(|(sidecar, _)| sidecar.clone())
    }

    /// Whoever waits for an address that has just become free is dialled at once.
    fn let_claimants_in(&mut self, address: SocketAddr, now: Instant) {
        for member in self.members.values_mut().filter(|member| member.address == address) {
            if let Dial::Due { at, .. } = &mut member.dial {
                *at = now.min(*at);
            }
        }
    }

    fn dialled(
        &mut self,
        sidecar: &SidecarId,
        address: SocketAddr,
        outcome: Result<(), String>,
        now: Instant,
    ) {
        let holder = self.holder(address, sidecar);
        let Some(member) = self.members.get_mut(sidecar).filter(|member| member.address == address) else {
            return;
        };
        let failures = match member.dial {
            Dial::UnderWay { failures } | Dial::Due { failures, .. } => failures,
            Dial::Done => 0,
        };
        match outcome {
            // Another one was dialled at the same time and was first, or has come back meanwhile.
            Ok(()) if let Some(holder) = &holder => member.refuse_claim(holder, failures, now),
            Ok(()) => {
                member.proved = true;
                member.because = None;
                member.dial = Dial::Done;
                // Whoever held the address before has no session: it is gone. Other claimants wait.
                self.members
                    .retain(|other, held| other == sidecar || held.address != address || held.connected);
            }
            Err(because) => {
                member.dial_again(because, failures, now);
            }
        }
    }

    /// Dials that may begin: of connected members, at addresses that no other live session holds.
    fn due_dials(&mut self, now: Instant) -> Vec<Output> {
        let due: Vec<(SidecarId, u32)> = self
            .members
            .iter()
            .filter(|(_, member)| member.connected)
            .filter_map(|(sidecar, member)| match member.dial {
                Dial::Due { at, failures } if at <= now => Some((sidecar.clone(), failures)),
                Dial::Due { .. } | Dial::UnderWay { .. } | Dial::Done => None,
            })
            .collect();
        let mut outputs = Vec::new();
        for (sidecar, failures) in due {
            let address = self.members[&sidecar].address;
            let holder = self.holder(address, &sidecar);
            let member = self.members.get_mut(&sidecar).expect("listed above");
            if let Some(holder) = &holder {
                member.refuse_claim(holder, failures, now);
                continue;
            }
            member.dial = Dial::UnderWay { failures };
            outputs.push(Output::Dial { sidecar, service: member.service.clone(), address });
        }
        outputs
    }

    fn finished_withdrawals(&mut self, now: Instant) -> Vec<Output> {
        let acked = &self.acked;
        let mut finished = Vec::new();
        self.withdrawals.retain(|withdrawal| {
            let taken = withdrawal.waits.as_ref().is_some_and(|waits| {
                waits
                    .iter()
                    .all(|(sidecar, sequence)| acked.get(sidecar).is_some_and(|acked| acked >= sequence))
            });
            let over = taken || withdrawal.until <= now;
            if over {
                finished.push(Output::Withdrawn { sidecar: withdrawal.sidecar.clone() });
            }
            !over
        });
        finished
    }
}
