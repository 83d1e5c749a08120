//! The messages and calls of `proto/link.proto`.
#![expect(
    missing_docs,
    unused_qualifications,
    reason = "made from the protocol's definition, which documents them"
)]

tonic::include_proto!("luarm.link.v1");
