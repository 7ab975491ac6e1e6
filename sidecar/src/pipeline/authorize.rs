//! May this principal do this on the local service?
//!
//! The rules of [`outrider_shared::authorization`], evaluated on the inbound side alone, on the normalised path:
//! an enforced Deny that matches refuses; else, where enforced Allow policies exist, one of their rules must match; else
//! the mesh's default decides. Policies in mode Audit decide nothing: each yields what all of them together would have
//! done, had they been enforced.
//!
//! Prefixes match by whole segments, and the path has one spelling by then ([`super::path`]), so no percent-encoding or
//! dot segment leads around a rule. An operation on gRPC matches, in an Allow rule, only what is declared to be gRPC; in
//! a Deny rule the path alone is enough, or a caller could get around it by declaring another content type.

use outrider_shared::authorization::{
    Action, AuthorizationPolicy, DefaultAuthorization, Mode, Operation, Source,
};
use outrider_shared::snapshot::{LocalService, Mesh};
use outrider_shared::{RuleId, TrustDomain};
use smallvec::SmallVec;

use super::matching::{Protocol, RequestView};
use super::path::{Mode as PathMode, Pattern};
use super::principal::Principal;
use super::rejection::Rejection;

#[cfg(test)]
mod tests;

/// The policies of the local service, in the order in which they are asked.
#[derive(Debug)]
pub struct Authorization {
    trust_domain: TrustDomain,
    default: DefaultAuthorization,
    default_id: RuleId,
    deny: Vec<Policy>,
    allow: Vec<Policy>,
    audit_deny: Vec<Policy>,
    audit_allow: Vec<Policy>,
}

#[derive(Debug)]
struct Policy {
    id: RuleId,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    id: RuleId,
    from: Vec<Source>,
    to: Vec<CompiledOperation>,
}

#[derive(Debug)]
enum CompiledOperation {
    Http {
        methods: Vec<Box<str>>,
        prefixes: Vec<Pattern>,
    },
    /// Paths of exactly `/service/method`; a service without methods is a prefix.
    GrpcMethods(Vec<Pattern>),
    GrpcService(Pattern),
}

/// What was decided, by which rule, and what audited policies would have done.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    pub decision: Decision<'a>,
    /// One for each policy in mode Audit. Four fit without allocating.
    pub audits: SmallVec<[Audit<'a>; 4]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// By this rule, or by the mesh's default (`MeshConfig/name`).
    Allow { rule: &'a RuleId },
    /// A rule of a Deny policy matched.
    Deny { rule: &'a RuleId },
    /// Allow policies name the service (this is the first of them), and none of their rules matched.
    NotAllowed { policy: &'a RuleId },
    /// No Allow policy names the service, and the mesh's default refuses.
    DenyByDefault { mesh: &'a RuleId },
}

impl<'a> Decision<'a> {
    /// What decided: a rule, a policy, or the mesh's default.
    pub fn rule(self) -> &'a RuleId {
        match self {
            Self::Allow { rule } | Self::Deny { rule } => rule,
            Self::NotAllowed { policy } => policy,
            Self::DenyByDefault { mesh } => mesh,
        }
    }

    /// `Err` is what to answer; the rule to quote is [`Decision::rule`].
    pub fn check(self, principal: &Principal) -> Result<(), Rejection> {
        let principal = || principal.clone();
        match self {
            Self::Allow { .. } => Ok(()),
            Self::Deny { .. } => Err(Rejection::Denied { principal: principal() }),
            Self::NotAllowed { .. } => Err(Rejection::NotAllowed { principal: principal() }),
            Self::DenyByDefault { .. } => Err(Rejection::DeniedByDefault { principal: principal() }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit<'a> {
    /// The rule that would have refused, else the policy.
    pub id: &'a RuleId,
    pub would: Would,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Would {
    Pass,
    Refuse,
}

/// How much of an operation on gRPC must hold.
#[derive(Clone, Copy)]
enum Grpc {
    DeclaredAndPath,
    PathAlone,
}

impl Authorization {
    pub fn compile(mesh: &Mesh, local: &LocalService) -> Self {
        let of = |mode, action| {
            let chosen = move |policy: &&AuthorizationPolicy| policy.mode == mode && policy.action == action;
            local
                .authorization
                .iter()
                .filter(chosen)
                .map(|policy| Policy::compile(policy, mesh.path_normalization))
                .collect()
        };
        Self {
            trust_domain: mesh.trust_domain.clone(),
            default: mesh.default_authorization,
            default_id: mesh.id.clone(),
            deny: of(Mode::Enforce, Action::Deny),
            allow: of(Mode::Enforce, Action::Allow),
            audit_deny: of(Mode::Audit, Action::Deny),
            audit_allow: of(Mode::Audit, Action::Allow),
        }
    }

    /// Those that are enforced, Deny first.
    pub fn policies(&self) -> impl Iterator<Item = &RuleId> {
        self.deny.iter().chain(&self.allow).map(|policy| &policy.id)
    }

    pub fn authorize(&self, principal: &Principal, request: &RequestView<'_>) -> Verdict<'_> {
        let ask = Question { principal, request, trust_domain: &self.trust_domain };
        let allowed_by = ask.first_match(&self.allow, Grpc::DeclaredAndPath);
        let decision = match ask.first_match(&self.deny, Grpc::PathAlone) {
            Some(rule) => Decision::Deny { rule },
            None => match (allowed_by, self.allow.first()) {
                (Some(rule), _) => Decision::Allow { rule },
                (None, Some(policy)) => Decision::NotAllowed { policy: &policy.id },
                (None, None) => self.by_default(&ask),
            },
        };
        Verdict { decision, audits: self.audit(&ask, allowed_by) }
    }

    fn by_default(&self, ask: &Question<'_>) -> Decision<'_> {
        match self.default {
            DefaultAuthorization::AllowSameTrustDomain if ask.is_of_own_trust_domain() => {
                Decision::Allow { rule: &self.default_id }
            }
            DefaultAuthorization::AllowSameTrustDomain | DefaultAuthorization::Deny => {
                Decision::DenyByDefault { mesh: &self.default_id }
            }
        }
    }

    fn audit(&self, ask: &Question<'_>, allowed_by: Option<&RuleId>) -> SmallVec<[Audit<'_>; 4]> {
        let mut audits = SmallVec::new();
        for policy in &self.audit_deny {
            audits.push(match ask.matching_rule(policy, Grpc::PathAlone) {
                Some(rule) => Audit { id: rule, would: Would::Refuse },
                None => Audit { id: &policy.id, would: Would::Pass },
            });
        }
        if self.audit_allow.is_empty() {
            return audits;
        }
        let allowed =
            allowed_by.is_some() || ask.first_match(&self.audit_allow, Grpc::DeclaredAndPath).is_some();
        let would = if allowed { Would::Pass } else { Would::Refuse };
        audits.extend(self.audit_allow.iter().map(|policy| Audit { id: &policy.id, would }));
        audits
    }
}

struct Question<'a> {
    principal: &'a Principal,
    request: &'a RequestView<'a>,
    trust_domain: &'a TrustDomain,
}

impl Question<'_> {
    fn first_match<'p>(&self, policies: &'p [Policy], grpc: Grpc) -> Option<&'p RuleId> {
        policies.iter().find_map(|policy| self.matching_rule(policy, grpc))
    }

    fn matching_rule<'p>(&self, policy: &'p Policy, grpc: Grpc) -> Option<&'p RuleId> {
        let rule = policy.rules.iter().find(|rule| {
            self.comes_from(&rule.from)
                && (rule.to.is_empty() || rule.to.iter().any(|operation| self.is(operation, grpc)))
        });
        rule.map(|rule| &rule.id)
    }

    /// Nothing named means every peer of the own trust domain, never `external` or `unauthenticated`.
    fn comes_from(&self, sources: &[Source]) -> bool {
        if sources.is_empty() {
            return self.is_of_own_trust_domain();
        }
        sources.iter().any(|source| match (source, self.principal) {
            (Source::Spiffe(named), Principal::Mesh(proved)) => *named == **proved,
            (Source::External, Principal::External)
            | (Source::Unauthenticated, Principal::Unauthenticated) => true,
            (Source::Spiffe(_), Principal::External | Principal::Unauthenticated)
            | (Source::External, Principal::Mesh(_) | Principal::Unauthenticated)
            | (Source::Unauthenticated, Principal::Mesh(_) | Principal::External) => false,
        })
    }

    fn is_of_own_trust_domain(&self) -> bool {
        match self.principal {
            Principal::Mesh(id) => id.trust_domain() == self.trust_domain.as_str(),
            Principal::External | Principal::Unauthenticated => false,
        }
    }

    fn is(&self, operation: &CompiledOperation, grpc: Grpc) -> bool {
        let path = self.request.path();
        if self.request.is_opaque() {
            // Nobody sees what is done in a tunnel: it is not what an Allow rule names, and may be what a Deny rule names.
            return matches!(grpc, Grpc::PathAlone);
        }
        match operation {
            CompiledOperation::Http { methods, prefixes } => {
                (methods.is_empty()
                    || methods.iter().any(|method| **method == *self.request.method().as_str()))
                    && (prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.is_prefix_of(path)))
            }
            CompiledOperation::GrpcMethods(paths) => {
                self.may_be_grpc(grpc) && paths.iter().any(|named| named.equals(path))
            }
            CompiledOperation::GrpcService(service) => self.may_be_grpc(grpc) && service.is_prefix_of(path),
        }
    }

    fn may_be_grpc(&self, grpc: Grpc) -> bool {
        match grpc {
            Grpc::PathAlone => true,
            Grpc::DeclaredAndPath => self.request.protocol() == Protocol::Grpc,
        }
    }
}

impl Policy {
    fn compile(policy: &AuthorizationPolicy, paths: PathMode) -> Self {
        let rules = policy.rules.iter().map(|rule| Rule {
            id: rule.id.clone(),
            from: rule.from.clone(),
            to: rule.to.iter().map(|operation| CompiledOperation::compile(operation, paths)).collect(),
        });
        Self { id: policy.id.clone(), rules: rules.collect() }
    }
}

impl CompiledOperation {
    fn compile(operation: &Operation, paths: PathMode) -> Self {
        match operation {
            Operation::Http { methods, path_prefixes } => Self::Http {
                methods: methods.iter().map(|method| method.as_str().into()).collect(),
                prefixes: path_prefixes.iter().map(|prefix| Pattern::prefix(prefix, paths)).collect(),
            },
            Operation::Grpc { service, methods } if methods.is_empty() => {
                Self::GrpcService(Pattern::prefix(&format!("/{service}"), paths))
            }
            Operation::Grpc { service, methods } => Self::GrpcMethods(
                methods.iter().map(|method| Pattern::new(&format!("/{service}/{method}"), paths)).collect(),
            ),
        }
    }
}
