//! The conversation with a worker that makes its connections itself.

use dayfly_protocol::channel::{Hello, JobStart, OnLoss, Welcome};

use super::AcceptedJob;
use crate::{
    channel::{Arrival, Expectation, Host, Parted},
    store::{Claim, ClaimError, Ledger},
};

/// Talks to the worker of a job over one connection after the other, and hands it the job if it has none: the
/// claim is written down first, with `place`, by which the executor finds the place again.
///
/// Does not end by itself; whoever minds the place drops it at the worker's end.
///
/// # Errors
///
/// The job must not be handed over, or it could not be written down who has it.
pub async fn converse(
    mut host: Host,
    mut expectation: Expectation,
    job: AcceptedJob,
    place: String,
) -> Result<Parted, ClaimError> {
    let mut is_claimed = job.claimed.is_some();
    let start = JobStart {
        message: (*job.body).clone(),
        worker: job.worker,
        on_loss: OnLoss::ReconnectFor { seconds: job.lock.as_secs().max(1) },
    };
    loop {
        let mut arrival = expectation.next().await;
        loop {
            let Arrival { hello, mut link } = arrival;
            if !is_claimed {
                claim(&job.ledger, &expectation, &hello, &place).await?;
                is_claimed = true;
            }
            let welcome =
                if hello.job.is_some() { Welcome::Resumed } else { Welcome::Job(Box::new(start.clone())) };
            tokio::select! {
                parted = host.serve(&mut link, hello, welcome, true) => {
                    tracing::debug!(request = %job.label.request, ?parted, "a worker's connection has ended");
                    break;
                }
                newer = expectation.next() => arrival = newer,
            }
        }
    }
}

async fn claim(
    ledger: &Ledger,
    expectation: &Expectation,
    hello: &Hello,
    place: &str,
) -> Result<(), ClaimError> {
    let resume = hello.resume.digest();
    let claim = Claim { resume: resume.clone(), place: place.to_owned() };
    ledger.claim(claim).await?;
    expectation.bind(resume);
    Ok(())
}
