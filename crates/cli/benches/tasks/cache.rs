//! The task Cache with a folder of one GiB: a miss, which is saved after the job, and a hit.

use crate::project::{Project, make_noise, say, say_ratio};

const MEBIBYTES: usize = 1024;

pub(crate) fn run() -> anyhow::Result<()> {
    let project = Project::new()?;
    make_noise(&project.path("kept"), MEBIBYTES)?;
    let step = format!(
        "- task: Cache@2\n  displayName: cache\n  inputs: {{key: bench, path: '{}'}}\n",
        project.path("kept").display()
    );
    let missed = project.run(&step)?;
    let packed = project.time("tar --create --file plain.tar kept")?;
    say(&format!("miss of {MEBIBYTES} MiB: {:.3} s", missed.step("cache")?.as_secs_f64()));
    say_ratio("save it after the job", missed.step("Post-job: cache")?, "tar", packed);
    say(&missed.peaks());
    std::fs::remove_dir_all(project.path("kept"))?;
    let unpacked = project.time("tar --extract --file plain.tar; rm -r kept")?;
    let hit = project.run(&step)?;
    anyhow::ensure!(project.path("kept/7.bin").exists(), "it was no hit");
    say_ratio("hit", hit.step("cache")?, "tar", unpacked);
    say(&hit.peaks());
    Ok(())
}
