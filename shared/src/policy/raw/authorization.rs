//! `AuthorizationPolicy`: who may call what, by mTLS identity.

use crate::SpiffeId;

use super::metadata::{Label, Namespace};
use super::route::{GrpcMethodName, GrpcServiceName, MethodWord, PathText};
use super::targets::TargetRef;
use super::{Given, List, Located, NotBuilt};

record! {
    /// Who may call what. Deny wins; then one rule of an Allow policy must match, where any names the service.
    AuthorizationPolicySpec {
        /// Services, namespaces, or the mesh.
        "targetRefs" target_refs: List<Located<TargetRef>, 1, 16>,
        /// `Enforce` where it is left out.
        "mode" mode: Option<ModeWord>,
        /// `Allow` where it is left out.
        "action" action: Option<Located<ActionWord>>,
        /// Any of these. None: an Allow policy lets nobody in.
        "rules" rules: List<Located<AuthorizationRuleSpec>, 0, 64>,
    }
}

record! {
    /// Matches where one of `from` and one of `to` do.
    AuthorizationRuleSpec {
        /// Any of these callers. None: every peer of the mesh's trust domain.
        "from" from: List<Located<SourceSpec>, 0, 64>,
        /// Any of these operations. None: all.
        "to" to: List<Located<OperationSpec>, 0, 64>,
        /// Expressions about the end user; refused.
        "when" when: NotBuilt,
    }
}

record! {
    /// Who calls: exactly one of these keys; further callers are further items.
    SourceSpec {
        /// SPIFFE IDs of the mesh's trust domain.
        "spiffe" spiffe: Given<List<Located<SpiffeText>, 1, 64>>,
        /// Service accounts of declared services.
        "serviceAccounts" service_accounts: Given<List<Located<ServiceAccount>, 1, 64>>,
        /// `true`: whoever comes in at an edge port.
        "external" external: Given<Located<bool>>,
        /// `true`: a peer that came in plaintext.
        "unauthenticated" unauthenticated: Given<Located<bool>>,
    }
}

record! {
    /// A service account of a declared service.
    ServiceAccount {
        /// The policy's own where it is left out.
        "namespace" namespace: Option<Namespace>,
        /// Its name.
        "name" name: Label,
    }
}

record! {
    /// What is called: exactly one of these keys; further operations are further items.
    OperationSpec {
        /// By method and path.
        "http" http: Given<HttpOperation>,
        /// By gRPC service and method.
        "grpc" grpc: Given<GrpcOperation>,
    }
}

record! {
    /// Matches where the method and the path do.
    HttpOperation {
        /// Any of these; none: all.
        "methods" methods: List<MethodWord, 0, 16>,
        /// Any of these, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`; none: all.
        "pathPrefixes" path_prefixes: List<PathText, 0, 64>,
    }
}

record! {
    /// Matches where the service and the method do.
    GrpcOperation {
        /// Its full name, with its package.
        "service" service: GrpcServiceName,
        /// Any of these; none: all.
        "methods" methods: List<GrpcMethodName, 0, 64>,
    }
}

choice! {
    /// Whether a policy decides.
    ModeWord {
        "Audit" => Audit,
        "Enforce" => Enforce,
    }
}

choice! {
    /// What a policy decides where a rule matches.
    ActionWord {
        "Allow" => Allow,
        "Deny" => Deny,
    }
}

text! {
    /// A SPIFFE ID.
    SpiffeText, "a SPIFFE ID: spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
    |given| given.parse::<SpiffeId>().is_ok()
}
