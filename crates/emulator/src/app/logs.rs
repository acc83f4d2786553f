//! What is written to logs: block after block, each of them wholly.

use std::io::{self, Write as _};
use std::ops::Deref;
use std::path::Path;

use dayfly_protocol::logs::TaskLog;
use dayfly_protocol::{LogId, PlanId};

use super::App;
use crate::events::Place;
use crate::state;
use crate::state::logs::Appended;

impl App {
    /// Appends one block to a log. Once it is begun, it is written and counted even when nobody waits for it.
    pub(crate) async fn append_to_log(
        &self,
        plan: PlanId,
        log: LogId,
        block: impl Deref<Target = [u8]> + Send + 'static,
    ) -> io::Result<state::Result<TaskLog>> {
        let writer = match self.state().plans.get(plan).and_then(|plan| plan.log(log)) {
            Ok(log) => log.writer(),
            Err(error) => return Ok(Err(error)),
        };
        let place = self.hub().place().await;
        let writer = writer.lock_owned().await;
        let app = self.clone();
        let appended = self.disk().run(move || {
            let appended = app.append_block(plan, log, &block, place);
            drop(writer);
            appended
        });
        appended.await?
    }

    fn append_block(
        &self,
        plan: PlanId,
        log: LogId,
        block: &[u8],
        place: Place,
    ) -> io::Result<state::Result<TaskLog>> {
        let (file, on_disk) = match self.state().begin_append(plan, log, block.len() as u64) {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        write_block(&file, block)?;
        let block = Appended {
            line_ends: memchr::memchr_iter(b'\n', block).count(),
            has_open_line: block.last().map(|last| *last != b'\n'),
            on_disk,
        };
        Ok(self.state().end_append(plan, log, block, self.now(), place))
    }
}

fn write_block(file: &Path, block: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(block)
}
