//! What an upload or a download tells to the step's log.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::files::Found;
use super::noun;

/// How often it tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The step's log. Nobody need read it to the end.
pub(super) struct Log(pub(super) mpsc::Sender<String>);

impl Log {
    pub(super) async fn line(&self, line: String) {
        let _ = self.0.send(line).await;
    }

    /// Tells of what was found and of what is not in the artifact.
    pub(super) async fn found(&self, found: &Found) {
        match found.left_out {
            0 => {}
            _ if !found.has_ignore_file => {
                self.line("Left out .git; an .artifactignore, also an empty one, takes it in".to_owned())
                    .await;
            }
            1 => self.line("Left out 1 file or folder, as .artifactignore says".to_owned()).await,
            many => self.line(format!("Left out {many} files and folders, as .artifactignore says")).await,
        }
        if let Some(first) = found.loops.first() {
            let link = found.root.join(first);
            let others = found.loops.len() - 1;
            let others = if others == 0 { String::new() } else { format!(", and {others} more") };
            self.line(format!("Left out '{}', a link to a folder that holds it{others}", link.display()))
                .await;
        }
        let count = found.files.len();
        if count > 0 {
            self.line(format!("Uploading {count} {}", noun(count))).await;
        }
    }
}

/// How far an upload or a download is.
pub(super) struct Progress {
    done_word: &'static str,
    total: usize,
    done: usize,
    told_at: Instant,
}

impl Progress {
    pub(super) fn new(done_word: &'static str, total: usize) -> Progress {
        Progress { done_word, total, done: 0, told_at: Instant::now() }
    }

    /// Counts a file, and now and then tells of it.
    pub(super) async fn one_more(&mut self, log: &Log) {
        self.done += 1;
        if self.told_at.elapsed() >= PROGRESS_EVERY {
            self.told_at = Instant::now();
            let percent = self.done * 100 / self.total.max(1);
            log.line(format!("{} {} of {} files ({percent}%)", self.done_word, self.done, self.total)).await;
        }
    }
}
