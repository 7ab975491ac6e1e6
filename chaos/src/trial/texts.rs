//! What each experiment asks, how it is set up, and what its systems are, in words.

use super::Trial;
use super::system::System;

impl Trial {
    /// In one sentence.
    pub fn question(self) -> &'static str {
        match self {
            Self::RetryStorm => "Does a service come back after an outage, although its callers try again?",
            Self::Metastable => {
                "Does a service come back after it was slow for a while, however slow and however long?"
            }
            Self::Spike => "How soon does a service settle when more is asked of it than it can do?",
            Self::Priorities => {
                "Does what matters get through, and does everybody keep their share, when some ask too much?"
            }
            Self::Overload => {
                "How much of what it can do does a service still do, when ten times as much is asked of it?"
            }
            Self::Amplification => {
                "How many times does a request arrive at the end of a chain, when each link may try thrice?"
            }
        }
    }

    /// For somebody who wants to judge or repeat it.
    pub fn setup(self) -> &'static str {
        match self {
            Self::RetryStorm => {
                "The shape of Bronson et al., \"Metastable Failures in Distributed Systems\" (HotOS 2021). A backend of 300 \
                 requests a second (3 workers, 10 ms each, one line without a bound); 4 clients ask 280 a second of it, wait \
                 1 s, and then try once more. After 5 s the backend stands still for 10 s: what has come in stays in its \
                 line. A request is good if its caller got an answer at all, at the first attempt or the second. Recovered \
                 is where a whole second, and all that follows, is good to 95 %."
            }
            Self::Metastable => {
                "The shape of Huang et al., \"Metastable Failures in the Wild\" (OSDI 2022). A backend that spends 5 ms of CPU \
                 on each request, one at a time; 4 clients ask 140 a second of it (0.7 of what it can do), wait 1 s, and \
                 then try once more. For 1 to 30 s a share of 50 to 90 % of its CPU is taken away; then it is whole again, \
                 and is watched for 12 s. Recovered is where a whole second, and all that follows, is good to 95 %; stuck is \
                 what does not recover while it is watched."
            }
            Self::Spike => {
                "The shape of Cho et al., \"Overload Control for us-scale RPCs with Breakwater\" (OSDI 2020), at this machine's \
                 scale. A backend of 1,000 requests a second (1 worker, 1 ms each); 20 clients ask half of that, and from \
                 3 s on 1.4 times as much. An answer within 100 ms is good; the mesh knows that as the route's timeout. \
                 Settled is where goodput stays at 95 % of what the backend can do."
            }
            Self::Priorities => {
                "The shape of Netflix's \"Enhancing Netflix Reliability with Service-Level Prioritized Load Shedding\" (2024). \
                 A backend of 300 requests a second (3 workers, 10 ms each) and 20 clients; an answer within 500 ms is \
                 good. First the critical class alone (0.4 times what the backend can do), then the bulk class beside it \
                 (0.6 times), then twelve times as much bulk: 7.6 times in all. In a second load there is one class, each \
                 client asks its 25th (0.8 times in all), and then one of them 6 times what the backend can do."
            }
            Self::Overload => {
                "A backend of 300 requests a second (3 workers, 10 ms each) and 4 clients, which ask from half of that to ten \
                 times as much, each load 8 s long, and wait 2 s. An answer within 500 ms is good; the mesh knows that as \
                 the route's timeout. Goodput is counted from the second quarter of each load on."
            }
            Self::Amplification => {
                "A client and five services in a chain: five calls one after another, each of which may be tried three times. \
                 The last service answers well for 5 s, is then told to answer 503 to a tenth of the requests, and then to all, \
                 for 10 s each. The apps in between pass \
                 on `outrider-*` fields and trace context, or `traceparent` alone, or nothing. Load at the leaf is what \
                 arrives there over what the client asked for. 100 requests a second, so that the share of a retry budget \
                 and not its least rate decides; 5 a second without protection, where each becomes 243."
            }
        }
    }

    /// What stands between the apps in a system.
    pub fn between(self, system: System) -> &'static str {
        match (system, self) {
            (System::Unprotected, Self::Overload) => {
                "our sidecars, with as many requests under way as one takes at all, 1,024, and no line"
            }
            (System::Unprotected, Self::Amplification) => "nothing; each app tries three times itself",
            (System::Unprotected, _) => "nothing: clients call the backend",
            (System::Fifo, _) => {
                "our sidecars, with a line first come first served, bounds as by default, not shared by peer"
            }
            (System::Lifo, _) => {
                "our sidecars, with a line last come first served, bounds as by default, not shared by peer"
            }
            (System::CoDel, _) => "our sidecars, with a line kept short by CoDel, not shared by peer",
            (System::Envoy, _) => {
                "an Envoy beside each app, set as `chaos/envoy/sidecar.yaml` says: circuit breaker, retry budget, outlier \
                 detection, timeouts, adaptive concurrency; HTTP/2 in plaintext between them"
            }
            (System::Ours, Self::Priorities) => {
                "our sidecars with the product's defaults and two classes named, over mTLS"
            }
            (System::Ours, _) => "our sidecars with the product's defaults, over mTLS",
        }
    }
}
