//! Which controller may act for an agent set: one `coordination.k8s.io` Lease for each set.
//!
//! As in client-go's leader election no clock is compared with another machine's: a Lease is free when we saw
//! no change of it for its whole length. The holder stops two seconds before that, counted from the moment at
//! which it *sent* its last successful renewal.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long a Lease nobody renews keeps others away.
const LENGTH: Duration = Duration::from_secs(10);
const LENGTH_SECONDS: i32 = 10;
/// How long its holder acts on one renewal.
const HOLD: Duration = Duration::from_secs(8);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// How often others look whether it is free: a Lease that is handed over is taken within a second.
const LOOK: Duration = Duration::from_millis(500);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(2);

/// Whether an agent set is still ours. Falls once, for good.
///
/// Who was stopped for a while (SIGSTOP, a slow machine) finds it fallen when it wakes up, before any timer
/// has had a chance to run: the moment until which it holds is compared with the monotonic clock.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    lost: CancellationToken,
    /// Until when it holds; without end if there is none.
    until: Arc<Mutex<Option<Instant>>>,
}

impl Fence {
    /// One that holds until it is told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the set is ours at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        if self.until().is_some_and(|until| Instant::now() >= until) {
            self.lose();
        }
        !self.lost.is_cancelled()
    }

    /// Ends when the set is ours no more.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Lets it fall.
    pub fn lose(&self) {
        self.lost.cancel();
    }

    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it hold longer, if it has not fallen.
    fn extend(&self, until: Instant) {
        if self.is_held() {
            *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }
}

/// A Lease that is ours, and is renewed for as long as this lives and the API server answers. Dropped, it is
/// ours no more, but others must wait for its end: [`Ownership::release`] spares them that.
#[derive(Debug)]
pub struct Ownership {
    fence: Fence,
    released: CancellationToken,
    renewal: Option<AbortOnDropHandle<()>>,
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.fence.lose();
    }
}

impl Ownership {
    /// Waits until the Lease `name` is ours. `client` must be one that tries nothing again by itself, and is
    /// best used for nothing else, so that no burst of other calls delays a renewal. `holder` is what others
    /// learn of us. `None`: the namespace is being deleted and its Lease is gone, so nobody can have it any
    /// more.
    pub async fn acquire(client: Client, namespace: &str, name: &str, holder: &str) -> Option<Self> {
        let leases = Leases {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            holder: holder.to_owned(),
        };
        let (held, sent) = leases.acquire().await?;
        let fence = Fence::new();
        fence.extend(sent + HOLD);
        let released = CancellationToken::new();
        let renewal = tokio::spawn(leases.keep(held, fence.clone(), released.clone()));
        Some(Self { fence, released, renewal: Some(AbortOnDropHandle::new(renewal)) })
    }

    /// What falls when the Lease is lost.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Lets the next one have it at once. The fence falls first.
    pub async fn release(mut self) {
        // In this order, so that the renewal knows why the fence has fallen.
        self.released.cancel();
        self.fence.lose();
        if let Some(renewal) = self.renewal.take() {
            // It ends by itself, within the time of one call or two.
            let _ = renewal.await;
        }
    }
}

/// One Lease, as its holder or who wants to be sees it.
struct Leases {
    api: Api<Lease>,
    name: String,
    holder: String,
}

/// What a try to write brought.
enum Tried {
    Done(Box<Lease>),
    /// It is not as we thought.
    Changed,
    /// The namespace is being deleted.
    Doomed,
    /// Nobody knows.
    Failed,
}

impl Leases {
    /// Answers the Lease, and the moment at which it was asked for; `None` if there never will be one.
    async fn acquire(&self) -> Option<(Lease, Instant)> {
        let mut seen: Option<(Option<String>, Instant)> = None;
        // Said once, not twice a second for as long as the API server is away.
        let mut is_away = false;
        loop {
            let now = Instant::now();
            let tried = match timeout(CALL, self.api.get_opt(&self.name)).await {
                Ok(Ok(None)) => self.create().await,
                Ok(Ok(Some(lease))) => {
                    let version = lease.resource_version();
                    let since = match &seen {
                        Some((known, since)) if *known == version => *since,
                        _ => now,
                    };
                    seen = Some((version, since));
                    if is_free(&lease) || now.duration_since(since) >= length(&lease) {
                        self.replace(self.taken(lease)).await
                    } else {
                        Tried::Changed
                    }
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(lease = self.name, %error, "could not read the Lease of an agent set");
                    }
                    Tried::Failed
                }
                Err(_) => Tried::Failed,
            };
            match tried {
                Tried::Done(lease) => return Some((*lease, now)),
                Tried::Doomed => return None,
                Tried::Changed | Tried::Failed => sleep(LOOK.mul_f64(0.8 + fastrand::f64() * 0.4)).await,
            }
        }
    }

    /// Renews it until it is released or lost.
    async fn keep(self, mut held: Lease, fence: Fence, released: CancellationToken) {
        let mut next = Instant::now() + RENEW;
        loop {
            tokio::select! {
                biased;
                () = released.cancelled() => break,
                () = fence.lost() => return,
                () = sleep_until(fence.until().unwrap_or(next)) => {
                    tracing::warn!(lease = self.name, "could not renew the Lease of an agent set in time");
                    return fence.lose();
                }
                () = sleep_until(next) => {}
            }
            let sent = Instant::now();
            next = sent + RENEW;
            if released.is_cancelled() {
                break;
            }
            if !fence.is_held() {
                return;
            }
            match self.replace(renewed(&held)).await {
                Tried::Done(lease) => {
                    held = *lease;
                    fence.extend(sent + HOLD);
                }
                Tried::Changed => match timeout(CALL, self.api.get_opt(&self.name)).await {
                    // Our own renewal, whose answer was lost, or somebody's label.
                    Ok(Ok(Some(lease))) if is_same_term(&lease, &held) => {
                        held = lease;
                        next = sent;
                    }
                    Ok(Ok(_)) => {
                        tracing::warn!(
                            lease = self.name,
                            "another controller took the Lease of an agent set"
                        );
                        return fence.lose();
                    }
                    _ => {}
                },
                Tried::Doomed | Tried::Failed => {}
            }
        }
        fence.lose();
        let mut free = held;
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.replace(free).await;
    }

    async fn create(&self) -> Tried {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = self.taken(Lease { metadata, spec: None });
        said(timeout(CALL, self.api.create(&PostParams::default(), &lease)).await)
    }

    async fn replace(&self, lease: Lease) -> Tried {
        said(timeout(CALL, self.api.replace(&self.name, &PostParams::default(), &lease)).await)
    }

    /// The same Lease in our hands.
    fn taken(&self, lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.and_then(|spec| spec.lease_transitions);
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(LENGTH_SECONDS),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(before.map_or(0, |before| before.saturating_add(1))),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..lease }
    }
}

fn said(answer: Result<kube::Result<Lease>, tokio::time::error::Elapsed>) -> Tried {
    match answer {
        Ok(Ok(lease)) => Tried::Done(Box::new(lease)),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Tried::Changed,
        // In the words of the admission plugin NamespaceLifecycle.
        Ok(Err(kube::Error::Api(status)))
            if status.code == 403 && status.message.contains("because it is being terminated") =>
        {
            Tried::Doomed
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "could not write the Lease of an agent set");
            Tried::Failed
        }
        Err(_) => Tried::Failed,
    }
}

/// Whether nobody else had it in between, not even under our name.
fn is_same_term(one: &Lease, other: &Lease) -> bool {
    let term = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        Some((spec.holder_identity.clone()?, spec.acquire_time.clone()?, spec.lease_transitions))
    };
    one.uid() == other.uid() && term(one).is_some_and(|term_of_one| Some(term_of_one) == term(other))
}

fn is_free(lease: &Lease) -> bool {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    holder.is_none_or(str::is_empty)
}

/// How long its holder, which may be of another version, keeps others away.
fn length(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(LENGTH, Duration::from_secs).max(LENGTH)
}

fn renewed(lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    if let Some(spec) = &mut lease.spec {
        spec.renew_time = Some(MicroTime(Timestamp::now()));
    }
    lease
}
