//! Reports of a job: timeline, console and logs, each in order through a bounded queue of its own.
//!
//! ```text
//! Record::update ----------------------> timeline queue (merged by record) -> PATCH records
//! Record::line -> mask -+-> feed queue (memory, then disk) -----------------> POST feed
//!                       +-> page writer (thread, disk) -> uploader ---------> POST logs
//! Record::attach ----------------------------------------^
//! ```
//!
//! No step waits for the network: a slow service lets the timeline merge and the console and the log pages
//! grow on disk. Senders go on trying for as long as the job runs, and at its end until a deadline
//! ([`Reporter::finish`]).

mod chunk;
mod deadline;
mod feed;
mod losses;
mod pages;
mod patience;
mod record;
mod service;
mod stamp;
mod timeline;
mod upload;

pub use deadline::Deadline;
pub use record::{NewRecord, Record};
pub use service::Error;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dayfly_client::JobPlan;
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState, TimelineReference};
use dayfly_protocol::{RecordId, TimelineId};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use dayfly_mask::Masker;
use losses::{Loss, Losses, count_of_lines};
use pages::Message;
use patience::Patience;
use service::Service;
use upload::{Item, Uploader};

/// Blocks of lines on their way to the page writer: 1 MiB.
const PAGE_QUEUE: usize = 32;

/// Blocks and attachments on their way to the service; blocks in memory have a budget of their own.
const UPLOAD_QUEUE: usize = 1024;

/// How long the beginning of a possible secret is held back if the text does not go on.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// How long the console may fail at the end while other reports come through: longer than the client's
/// longest pause between two attempts. (The official agent tries each batch once.)
const CONSOLE_PATIENCE: Duration = Duration::from_secs(20);

/// Of the time at the end, this much is kept for what must follow the logs: the last update of the timeline.
const LAST_UPDATE: Duration = Duration::from_secs(1);

/// How long it may take after the end to say on the job's record what was lost.
const LAST_WORD: Duration = Duration::from_secs(3);

/// What a reporter needs.
pub struct Settings {
    /// The plan, with the job's token.
    pub plan: JobPlan,
    /// The job's timeline.
    pub timeline: TimelineId,
    /// The job's record, which the service has made.
    pub job: RecordId,
    /// Hides secrets in everything that is reported.
    pub masker: Masker,
    /// Where log pages lie until they are uploaded. Made when needed.
    pub pages: PathBuf,
    /// The agent's name, shown with the records.
    pub worker_name: String,
    /// The pause between two rounds of console lines, if the job message gives it.
    pub feed_interval: Option<Duration>,
}

/// What became of the reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flushed {
    /// Output variables did not reach the service: the job must fail, since later jobs depend on them
    /// (`JobServerQueue.cs`).
    pub variables_lost: bool,
    /// What did not reach the service, in masked words.
    pub lost: Vec<String>,
    /// What was put on the job's record about it.
    pub issue: Option<Issue>,
}

/// Reports one job. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
    job: Record,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: HashMap<RecordId, Record>,
    /// Timelines of details that were made.
    details: HashSet<TimelineId>,
    /// None after the end.
    running: Option<Running>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("job", &self.job).finish_non_exhaustive()
    }
}

/// What records share.
struct Shared {
    masker: Masker,
    timeline_id: TimelineId,
    worker_name: String,
    timeline: Arc<timeline::Queue>,
    feed: Arc<feed::Queue>,
    losses: Arc<Losses>,
    /// Taken at the end, which closes the queues.
    ends: Mutex<Option<Ends>>,
    /// Records whose masks hold something back.
    held: Mutex<Vec<Weak<record::Inner>>>,
    holding: Notify,
}

#[derive(Clone)]
struct Ends {
    pages: mpsc::Sender<Message>,
    items: mpsc::Sender<Item>,
}

/// The tasks of a reporter. Dropped before the end, they are stopped and what is not sent yet is lost.
struct Running {
    shared: Arc<Shared>,
    service: Arc<Service>,
    pages: Task<()>,
    uploader: Task<()>,
    /// Tells how many lines it could not send.
    console: Task<u64>,
    timeline: Task<()>,
    held: Task<()>,
    /// Ends the task that watches what masks hold back.
    stop: CancellationToken,
    /// These end the patience of the senders.
    console_over: CancellationToken,
    uploads_over: CancellationToken,
    over: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Closes the page writer's queue: its thread ends. The other tasks are aborted by their handles.
        self.shared.close();
    }
}

/// A task which is aborted when it is dropped.
struct Task<T>(Option<JoinHandle<T>>);

impl<T> Task<T> {
    fn new(handle: JoinHandle<T>) -> Task<T> {
        Task(Some(handle))
    }

    /// Waits for the task; again if an earlier wait was dropped. None if it was waited for before.
    async fn join(&mut self) -> Option<Result<T, JoinError>> {
        let result = match &mut self.0 {
            Some(handle) => handle.await,
            None => return None,
        };
        self.0 = None;
        Some(result)
    }

    /// The same until `end`; then tells the task that time is over by `over` and waits for it to see that.
    async fn join_until(
        &mut self,
        end: impl Future<Output = ()>,
        over: &CancellationToken,
    ) -> Option<Result<T, JoinError>> {
        tokio::select! {
            biased;
            result = self.join() => result,
            () = end => {
                over.cancel();
                self.join().await
            }
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

impl Reporter {
    /// Starts to report. To be called within a Tokio runtime; ends with [`Reporter::finish`].
    pub fn start(settings: Settings) -> Reporter {
        let service = Arc::new(Service::new(&settings.plan, settings.timeline, settings.job));
        let (pages, page_messages) = mpsc::channel(PAGE_QUEUE);
        let (items, uploads) = mpsc::channel(UPLOAD_QUEUE);
        let losses = Arc::new(Losses::new(settings.masker.clone()));
        losses.name(settings.job, "the job".to_owned());
        let shared = Arc::new(Shared {
            masker: settings.masker,
            timeline_id: settings.timeline,
            worker_name: settings.worker_name,
            timeline: Arc::default(),
            feed: Arc::new(feed::Queue::new(settings.feed_interval)),
            losses: Arc::clone(&losses),
            ends: Mutex::new(Some(Ends { pages, items: items.clone() })),
            held: Mutex::default(),
            holding: Notify::new(),
        });
        let job = Record::new(settings.job, Arc::clone(&shared), None);
        let [stop, console_over, uploads_over, over] = std::array::from_fn(|_| CancellationToken::new());

        let disk_failed = {
            let (job, folder) = (job.clone(), settings.pages.clone());
            move |error: std::io::Error| job.warn_of_disk(&folder, &error)
        };
        let (feed, folder) = (Arc::clone(&shared.feed), settings.pages);
        let pages = tokio::task::spawn_blocking(move || {
            pages::write(page_messages, items, &feed, folder, disk_failed)
        });
        let uploader = tokio::spawn(upload::run(
            uploads,
            Uploader {
                service: Arc::clone(&service),
                timeline: Arc::clone(&shared.timeline),
                timeline_id: settings.timeline,
                losses: Arc::clone(&losses),
                patience: Patience::new(uploads_over.clone()).telling(Arc::clone(&shared.feed) as _),
            },
        ));
        let console = feed::Sender {
            queue: Arc::clone(&shared.feed),
            service: Arc::clone(&service),
            losses: Arc::clone(&losses),
            patience: Patience::new(console_over.clone()),
        };
        let timeline = timeline::send(
            Arc::clone(&shared.timeline),
            Arc::clone(&service),
            losses,
            Patience::new(over.clone()).telling(Arc::clone(&shared.feed) as _),
        );
        let running = Running {
            shared: Arc::clone(&shared),
            service,
            pages: Task::new(pages),
            uploader: Task::new(uploader),
            console: Task::new(tokio::spawn(console.run())),
            timeline: Task::new(tokio::spawn(timeline)),
            held: Task::new(tokio::spawn(release_held(Arc::clone(&shared), stop.clone()))),
            stop,
            console_over,
            uploads_over,
            over,
        };
        Reporter {
            shared,
            job,
            state: Arc::new(Mutex::new(State { running: Some(running), ..State::default() })),
        }
    }

    /// The job's record. Its log has the lines of all records.
    pub fn job(&self) -> Record {
        self.job.clone()
    }

    /// Makes a record, pending until it is started.
    pub fn record(&self, new: NewRecord) -> Record {
        let record = Record::new(new.id, Arc::clone(&self.shared), Some(Arc::clone(&self.job.inner)));
        self.state().records.insert(new.id, record.clone());
        self.shared.losses.name(new.id, format!("'{}'", new.name));
        record.update(TimelineRecord {
            parent_id: Some(new.parent.unwrap_or(self.job.id())),
            record_type: Some(new.kind),
            name: Some(new.name),
            ref_name: new.ref_name,
            order: new.order,
            task: new.task,
            state: Some(TimelineRecordState::Pending),
            ..TimelineRecord::default()
        });
        record
    }

    /// Changes a record of the timeline of `record`'s details, which is made when it is needed first
    /// (`task.logdetail`).
    pub fn detail(&self, record: &Record, timeline: TimelineId, mut change: TimelineRecord) {
        if self.state().details.insert(timeline) {
            self.shared.timeline.add_timeline(timeline);
            let details = Some(TimelineReference { id: timeline, ..TimelineReference::default() });
            record.update(TimelineRecord { details, ..TimelineRecord::default() });
        }
        self.shared.mask(&mut change);
        self.shared.timeline.add(timeline, change);
    }

    /// Sets the pause between two rounds of console lines, as the service asks for.
    pub fn set_feed_interval(&self, interval: Duration) {
        self.shared.feed.set_interval(interval);
    }

    /// Closes all logs, sends everything and waits for it, at most for `deadline`. Further reports are
    /// dropped.
    pub async fn finish(&self, deadline: impl Into<Deadline>) -> Flushed {
        let (running, records) = {
            let mut state = self.state();
            (state.running.take(), std::mem::take(&mut state.records))
        };
        let Some(mut running) = running else { return Flushed::default() };
        let countdown = deadline.into().begin();
        let end_of_console = || countdown.reached(|all| all / 2);
        let end_of_uploads = || countdown.reached(|all| all - LAST_UPDATE.min(all / 4));
        running.stop.cancel();
        let held = running.held.join().await;
        running.note_panic("what masks held back", held);

        let logs = async {
            for record in records.values() {
                record.close_log().await;
            }
            self.job.close_log().await;
        };
        // Waits for the page writer, and that for the uploader if there is no disk.
        tokio::select! {
            biased;
            () = logs => {}
            () = end_of_console() => running.uploads_over.cancel(),
        }
        self.shared.feed.close();
        let end_or_hopeless = async {
            tokio::select! {
                () = end_of_console() => {}
                () = self.shared.feed.is_hopeless(CONSOLE_PATIENCE) => {}
            }
        };
        let console = running.console.join_until(end_or_hopeless, &running.console_over).await;
        if let Some(lost @ 1..) = running.note_panic("the console", console) {
            let message =
                format!("{} did not reach the console in time; the log has all lines", count_of_lines(lost));
            self.shared.losses.describe(Loss::Console, message.clone());
            self.job.write(&format!("##[warning]{message}"));
            tokio::select! {
                biased;
                () = self.job.close_log() => {}
                () = end_of_uploads() => running.uploads_over.cancel(),
            }
        }
        self.shared.close();
        let uploader = running.uploader.join_until(end_of_uploads(), &running.uploads_over).await;
        running.note_panic("the upload of logs", uploader);
        let pages = running.pages.join().await;
        running.note_panic("the writing of logs", pages);
        self.shared.timeline.close();
        let timeline = running.timeline.join_until(countdown.reached(|all| all), &running.over).await;
        running.note_panic("the timeline", timeline);
        let losses = self.shared.losses.snapshot();
        let issue = losses.issue();
        if let Some(issue) = issue.clone() {
            self.tell(issue, &running.service).await;
        }
        Flushed { variables_lost: losses.outputs_lost, lost: losses.descriptions, issue }
    }

    /// Says on the job's record what was lost. The last of it may have been lost with the timeline's last
    /// update, so this is one more.
    async fn tell(&self, issue: Issue, service: &Arc<Service>) {
        self.job.issue(issue);
        let (timeline, losses) = (Arc::clone(&self.shared.timeline), Arc::clone(&self.shared.losses));
        let patience = Patience::new(CancellationToken::new());
        let telling = timeline::send(timeline, Arc::clone(service), losses, patience);
        if tokio::time::timeout(LAST_WORD, telling).await.is_err() {
            tracing::warn!("the job's record does not say that reports were lost");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The result of a task; a panic becomes a loss.
    fn note_panic<T>(&self, what: &str, joined: Option<Result<T, JoinError>>) -> Option<T> {
        match joined? {
            Ok(result) => Some(result),
            Err(error) => {
                self.shared.losses.describe(Loss::Timeline, format!("{what} ended early: {error}"));
                None
            }
        }
    }
}

impl Shared {
    fn ends(&self) -> Option<Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Queues something for upload; waits while very much waits already.
    async fn send(&self, item: Item) {
        if let Some(ends) = self.ends() {
            // The uploader is gone only after the end, of which has been told.
            let _ = ends.items.send(item).await;
        }
    }

    /// Remembers that a record's mask holds something back.
    fn watch(&self, record: Weak<record::Inner>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        self.holding.notify_one();
    }

    fn mask_text(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.masker.mask(text) {
            *text = masked;
        }
    }

    fn mask_issue(&self, issue: &mut Issue) {
        self.mask_text(&mut issue.message);
        issue.data.values_mut().for_each(|value| self.mask_text(value));
    }

    /// Masks what people read. Output variables stay: secret ones are marked as such for the service.
    fn mask(&self, change: &mut TimelineRecord) {
        for text in [&mut change.name, &mut change.current_operation, &mut change.result_code] {
            text.iter_mut().for_each(|text| self.mask_text(text));
        }
        change.issues.iter_mut().for_each(|issue| self.mask_issue(issue));
    }
}

impl Record {
    /// Tells in the job's log and as an issue that log pages do not go to disk any more. Called from the page
    /// writer's thread.
    fn warn_of_disk(&self, folder: &Path, error: &std::io::Error) {
        let message = format!(
            "Cannot write log pages to '{}': {error}. Logs now go straight to the service; free some disk \
                space to speed up the job.",
            folder.display()
        );
        tracing::warn!("{message}");
        self.write(&format!("##[warning]{message}"));
        self.issue(Issue {
            issue_type: IssueType::Warning,
            category: Some("General".to_owned()),
            message,
            data: BTreeMap::new(),
        });
    }
}

/// Gives out what masks hold back when no text follows, until it is stopped.
async fn release_held(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = shared.holding.notified() => {}
            () = stop.cancelled() => return,
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(LONGEST_HOLD / 2) => {}
                () = stop.cancelled() => return,
            }
            let watched = std::mem::take(&mut *shared.held.lock().unwrap_or_else(PoisonError::into_inner));
            if watched.is_empty() {
                break;
            }
            for weak in watched {
                if let Some(record) = record::Inner::upgrade(&weak)
                    && record.release_held(LONGEST_HOLD).await
                {
                    shared.held.lock().unwrap_or_else(PoisonError::into_inner).push(weak);
                }
            }
        }
    }
}
