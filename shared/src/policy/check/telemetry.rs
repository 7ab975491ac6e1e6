//! Tracing: what the most specific `TelemetryPolicy` says, field by field.

use std::collections::BTreeMap;

use super::targets::{Reach, Target, resolve};
use super::{Checker, Entry};
use crate::ids::ServiceId;
use crate::policy::model::MeshSettings;
use crate::policy::raw::Place;
use crate::policy::raw::telemetry::{PropagationWord, Switch, TelemetryPolicySpec, TracingSpec};
use crate::snapshot::{Propagation, Tracing};
use crate::units::Fraction;

/// What one target says; absent fields are left to less specific ones.
#[derive(Debug, Clone, Default)]
struct Fields {
    sampling: Option<Fraction>,
    parent_based: Option<bool>,
    propagation: Option<Vec<Propagation>>,
}

pub(super) fn check<'s>(
    entries: &[Entry<'_, TelemetryPolicySpec>],
    mesh: &MeshSettings,
    services: impl Iterator<Item = &'s ServiceId>,
    checker: &mut Checker<'_>,
) -> BTreeMap<ServiceId, Tracing> {
    let mut said: BTreeMap<Target, Fields> = BTreeMap::new();
    for entry in entries {
        let reach = Reach::ServicesNamespacesMesh;
        let targets = resolve(entry, &entry.spec.target_refs.0, reach, mesh.id.as_str(), checker);
        let Some(tracing) = &entry.spec.tracing else { continue };
        let fields = fields(entry, tracing, checker);
        for target in targets {
            merge(said.entry(target).or_default(), &fields, entry, tracing, checker);
        }
    }
    services.map(|service| (service.clone(), effective(&said, service))).collect()
}

fn fields(
    entry: &Entry<'_, TelemetryPolicySpec>,
    tracing: &TracingSpec,
    checker: &mut Checker<'_>,
) -> Fields {
    let sampling = tracing.sampling_rate.as_ref().map(|rate| {
        let numerator = rate.value.numerator.0;
        let denominator = rate.value.denominator.map_or(100, |given| given.0);
        if numerator > denominator {
            let message = format!("{numerator} of {denominator} is more than all");
            let help = format!("accepted: 0 to {denominator} as numerator");
            checker.report(entry.file, &rate.place, message, help);
        }
        Fraction { numerator, denominator }
    });
    let parent_based =
        tracing.parent_based_sampling.as_ref().map(|sampling| sampling.value.mode == Switch::Enabled);
    let propagation = tracing.propagation.as_ref().map(|words| {
        let mut formats = Vec::new();
        for word in &words.value.0 {
            let format = match word.value {
                PropagationWord::TraceContext => Propagation::TraceContext,
                PropagationWord::Baggage => Propagation::Baggage,
                PropagationWord::B3 => Propagation::B3,
            };
            if formats.contains(&format) {
                let message = format!("`{}` is named twice", word.value.word());
                checker.report(entry.file, &word.place, message, "keep one of them".to_owned());
                continue;
            }
            formats.push(format);
        }
        formats
    });
    Fields { sampling, parent_based, propagation }
}

/// Two policies may speak of one target, but not of one field of it: which one wins would depend on their names.
fn merge(
    into: &mut Fields,
    from: &Fields,
    entry: &Entry<'_, TelemetryPolicySpec>,
    tracing: &TracingSpec,
    checker: &mut Checker<'_>,
) {
    let mut twice = |place: Option<&Place>| {
        if let Some(place) = place {
            let message = "another TelemetryPolicy sets this field for the same target";
            checker.report(entry.file, place, message, "keep one of them".to_owned());
        }
    };
    if into.sampling.is_some() && from.sampling.is_some() {
        twice(tracing.sampling_rate.as_ref().map(|given| &given.place));
    }
    if into.parent_based.is_some() && from.parent_based.is_some() {
        twice(tracing.parent_based_sampling.as_ref().map(|given| &given.place));
    }
    if into.propagation.is_some() && from.propagation.is_some() {
        twice(tracing.propagation.as_ref().map(|given| &given.place));
    }
    into.sampling = into.sampling.or(from.sampling);
    into.parent_based = into.parent_based.or(from.parent_based);
    into.propagation = into.propagation.take().or_else(|| from.propagation.clone());
}

/// From the mesh to the service: the last one that sets a field wins.
fn effective(said: &BTreeMap<Target, Fields>, service: &ServiceId) -> Tracing {
    let mut tracing = Tracing::default();
    let namespace = Target::Namespace(service.namespace().to_owned());
    for target in [Target::Mesh, namespace, Target::Service(service.clone())] {
        let Some(fields) = said.get(&target) else { continue };
        if let Some(sampling) = fields.sampling {
            tracing.sampling = sampling;
        }
        if let Some(parent_based) = fields.parent_based {
            tracing.parent_based = parent_based;
        }
        if let Some(propagation) = &fields.propagation {
            tracing.propagation.clone_from(propagation);
        }
    }
    tracing
}
