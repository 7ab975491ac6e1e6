//! What others wrote, on both ends of two sidecars: gRPC's own cases.

mod grpc;
