//! One pod per job: Dayfly's custom resources and the pods of jobs.

#[expect(unreachable_pub, reason = "KubeSchema derives hidden public types inside functions")]
pub mod api;
pub mod pod;
