//! One pod per job: Dayfly's custom resources.

#[expect(unreachable_pub, reason = "KubeSchema derives hidden public types inside functions")]
pub mod api;
