//! `TelemetryPolicy`: which requests are traced, and in what headers a trace travels.

use super::targets::TargetRef;
use super::{Int, List, Located};

record! {
    /// How requests are traced. The most specific target wins, field by field: service, namespace, mesh.
    TelemetryPolicySpec {
        /// Services, namespaces, or the mesh.
        "targetRefs" target_refs: List<Located<TargetRef>, 1, 16>,
        /// What it says of traces.
        "tracing" tracing: Option<TracingSpec>,
    }
}

record! {
    /// Traces. A field that no policy sets: nothing sampled, the caller's decision followed, `tracecontext` and `baggage`.
    TracingSpec {
        /// Which share of requests is sampled, of those that come without a decision.
        "samplingRate" sampling_rate: Option<Located<SamplingRate>>,
        /// Whether a decision that a request brings is followed.
        "parentBasedSampling" parent_based_sampling: Option<Located<ParentBasedSampling>>,
        /// Headers in which a trace is read and passed on.
        "propagation" propagation: Option<Located<List<Located<PropagationWord>, 1, 3>>>,
    }
}

record! {
    /// A share: `numerator` of `denominator`.
    SamplingRate {
        /// At most `denominator`.
        "numerator" numerator: Int<0, 1_000_000>,
        /// `100` where it is left out.
        "denominator" denominator: Option<Int<1, 1_000_000>>,
    }
}

record! {
    /// Sampling by the caller's decision.
    ParentBasedSampling {
        /// `Enabled`: a request that brings a decision keeps it.
        "mode" mode: Switch,
    }
}

choice! {
    /// On or off.
    Switch {
        "Enabled" => Enabled,
        "Disabled" => Disabled,
    }
}

choice! {
    /// A format of trace headers.
    PropagationWord {
        "tracecontext" => TraceContext,
        "baggage" => Baggage,
        "b3" => B3,
    }
}
