//! Attacks by what lies in the way of later jobs.

use std::path::Path;

use dayfly_protocol::TaskResult;

use super::World;

#[tokio::test]
async fn what_a_job_plants_in_the_work_folder_leads_the_next_one_nowhere() {
    let mut world = World::new().await;
    let dear = world.path("home/dear");
    let plant = format!(
        r#"mkdir -p {dear}; echo precious > {dear}/file; cd "$AGENT_WORKFOLDER"
        for name in _temp _tool _tasks _pages SourceRootMapping; do rm -rf $name; ln -s {dear} $name; done
        rm -f .lock; mkfifo .lock"#
    );
    assert_eq!(world.run(&plant).await, TaskResult::Succeeded);
    let check = format!(
        r#"cd "$AGENT_WORKFOLDER"; for name in _temp _tool _tasks _pages; do [ ! -L $name ] && [ -d $name ] || exit 9; done
        case "$0" in "$AGENT_TEMPDIRECTORY"/*) ;; *) exit 8;; esac; [ "$(ls {dear})" = file ]"#
    );
    for _ in 0..2 {
        assert_eq!(world.run(&check).await, TaskResult::Succeeded);
    }
    assert_eq!(std::fs::read_to_string(world.service.path("home/dear/file")).unwrap(), "precious\n");
    // What cannot be written cannot be deleted either, by the way it is usually done.
    let lock = r#"mkdir -p "$AGENT_TEMPDIRECTORY/a/b"; touch "$AGENT_TEMPDIRECTORY/a/b/c"; chmod 0 "$AGENT_TEMPDIRECTORY/a/b" "$AGENT_TEMPDIRECTORY/a""#;
    assert_eq!(world.run(lock).await, TaskResult::Succeeded);
    assert_eq!(world.run(r#"[ ! -e "$AGENT_TEMPDIRECTORY/a" ]"#).await, TaskResult::Succeeded);
    assert!(world.work().join("_temp").is_dir());
}

#[tokio::test]
async fn what_a_job_sets_ends_with_it() {
    let mut world = World::new().await;
    let evil = world.path("home/evil");
    let set = format!(
        r###"echo 'echo caught > {evil}.caught' > {evil}; echo {evil} > "$AGENT_TEMPDIRECTORY/left"
        for name in BASH_ENV ENV LD_PRELOAD PROMPT_COMMAND GIT_EXEC_PATH; do echo "##vso[task.setvariable variable=$name]{evil}"; done
        echo "##vso[task.prependpath]{evil}.d""###
    );
    assert_eq!(world.run(&set).await, TaskResult::Succeeded);
    let look = format!(
        r#"env | grep -F {evil} && exit 9; [ -z "$(ls -A "$AGENT_TEMPDIRECTORY" | grep -Fv "$(basename "$0")")" ] || exit 8; [ ! -e {evil}.caught ]"#
    );
    assert_eq!(world.run(&look).await, TaskResult::Succeeded);
}

#[tokio::test]
async fn what_a_job_fills_the_work_folder_with_is_gone_before_the_next() {
    let mut world = World::new().await;
    // Many files, names that are not text, folders deeper than a path may be long or a process may have open.
    let fill = r#"for top in "$AGENT_TEMPDIRECTORY" "$BUILD_ARTIFACTSTAGINGDIRECTORY"; do
            cd -P "$top" && [ "$top" != "" ] || exit 6; (umask 777; seq 2000 | xargs touch); touch $'\xff\n' -- '-rf' || exit 9
            perl -e 'for (1..5000) { mkdir "deep" or die $!; chdir "deep" or die $! } mkdir "end"; chmod 0, "end"' || exit 8
            [ -e deep/deep/deep ] || exit 7
        done"#;
    assert_eq!(world.run(fill).await, TaskResult::Succeeded);
    let look = r#"[ -z "$(ls -A "$AGENT_TEMPDIRECTORY" | grep -vF "$(basename "$0")")" ] || exit 9
        [ -z "$(ls -A "$BUILD_ARTIFACTSTAGINGDIRECTORY")" ] || exit 8"#;
    assert_eq!(world.run(look).await, TaskResult::Succeeded);
}

#[tokio::test]
async fn another_pipelines_job_leads_a_pipeline_nowhere() {
    let mut world = World::new().await;
    let dear = world.path("home/dear");
    let mine = world.path("mine");
    let own = format!(r#"echo "$AGENT_BUILDDIRECTORY" > {mine}"#);
    assert_eq!(world.run(&own).await, TaskResult::Succeeded);
    let folder = world.service.file("mine").await.trim().to_owned();
    assert!(Path::new(&folder).starts_with(world.service.path("work")), "{folder}");
    let check = format!(
        r#"for place in "$AGENT_BUILDDIRECTORY" "$BUILD_SOURCESDIRECTORY" "$BUILD_BINARIESDIRECTORY" "$BUILD_ARTIFACTSTAGINGDIRECTORY"; do
            [ -d "$place" ] && [ ! -L "$place" ] || exit 9; touch "$place/file-of-mine" || exit 8
        done; [ "$(ls {dear})" = file ]"#
    );
    for plant in [
        format!("for place in s a b TestResults; do rm -rf {folder}/$place; ln -s {dear} {folder}/$place; done"),
        format!("rm -rf {folder}; ln -s {dear} {folder}"),
        format!("chmod 0 {folder}/s {folder}"),
        // The last number of a folder that there can be, and none.
        r#"cd "$AGENT_WORKFOLDER/SourceRootMapping"; find . -name SourceFolder.json -delete
            echo '{"lastBuildFolderNumber":4294967295}' > Mappings.json"#
            .to_owned(),
        r#"cd "$AGENT_WORKFOLDER/SourceRootMapping"; find . -name SourceFolder.json -delete; rm Mappings.json; mkfifo Mappings.json"#
            .to_owned(),
    ] {
        let plant = format!("mkdir -p {dear}; echo precious > {dear}/file; {plant}");
        assert_eq!(world.run_of("2", &plant).await, TaskResult::Succeeded, "{plant}");
        assert_eq!(world.run(&check).await, TaskResult::Succeeded, "{plant}");
    }
    assert_eq!(std::fs::read_to_string(world.service.path("home/dear/file")).unwrap(), "precious\n");
}
