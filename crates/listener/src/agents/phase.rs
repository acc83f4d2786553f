//! What a set of agents is to do, as its owner wants it: the whole state, not changes of it.

use tokio::time::Instant;

use crate::store::Registration;

/// Which agents there shall be, and what they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The agents. One that is new here comes online; one that is here no more finishes its job and leaves,
    /// and stays registered.
    pub agents: Vec<Registration>,
    /// What they do.
    pub phase: Phase,
}

/// What the agents of a set do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Take jobs.
    Run,
    /// Take none for now: idle agents go offline, the others when their job is done. They come back when they
    /// are to run again.
    Pause,
    /// Take no more, finish what there is, and end.
    Drain,
    /// Cancel what there is; everything must be over at this moment.
    Stop(Instant),
    /// Let go of everything at once, for somebody else to go on with: sessions are kept, jobs that can go on
    /// without us go on, nothing is deleted and nothing reported.
    Release,
}

impl Phase {
    /// The one that counts when two are wanted: the one that goes further.
    pub(crate) fn further(self, other: Self) -> Self {
        match (self, other) {
            (Self::Stop(one), Self::Stop(another)) => Self::Stop(one.min(another)),
            _ if other.rank() > self.rank() => other,
            _ => self,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Run => 0,
            Self::Pause => 1,
            Self::Drain => 2,
            Self::Stop(_) => 3,
            Self::Release => 4,
        }
    }

    /// Whether agents end in it.
    pub(crate) fn is_ending(self) -> bool {
        self.rank() >= Self::Drain.rank()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_further_counts() {
        let (soon, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let order =
            [Phase::Run, Phase::Pause, Phase::Drain, Phase::Stop(late), Phase::Stop(soon), Phase::Release];
        for (place, one) in order.iter().enumerate() {
            for another in &order[place..] {
                assert_eq!(one.further(*another), *another);
                assert_eq!(another.further(*one), *another);
            }
        }
    }
}
