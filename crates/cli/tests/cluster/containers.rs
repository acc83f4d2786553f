//! The containers of a pod: where steps run, what is beside them, and what they cannot do.

use crate::registry::Registry;
use crate::world::{Differences, PAT, World, eventually};

#[test]
fn a_container_job_finds_its_image_its_services_and_other_containers() {
    let Some(world) = World::new("containers", 1) else { return };
    let (image, service) = (&world.cluster.job_image, &world.cluster.service_image);
    let (is_green, text) = world
        .queue(&format!(
            "resources:\n  containers:\n  - container: tools\n    image: {image}\n    env: {{ COLOUR: red }}\n    \
             options: --cap-add NET_ADMIN\n  - container: other\n    image: {image}\n    env: {{ COLOUR: green }}\n  \
             - container: repositories\n    image: {service}\n    ports: [ \"19418:9418\" ]\n\
             pool: k8s\ncontainer: tools\nservices: {{ git.local: repositories }}\nsteps:\n- checkout: self\n\
             - bash: echo job is $COLOUR in $PWD as $(id -u); ls; echo shared > /work/word\n\
             - bash: echo other is $COLOUR with $(cat /work/word)\n  target: other\n\
             - bash: echo host is ${{COLOUR:-colourless}} with $(cat /work/word)\n  target: host\n\
             - bash: |\n    for at in git.local/9418 localhost/19418; do\n      exec 3<>/dev/tcp/$at && echo reached $at\n    done\n"
        ))
        .end();
    assert!(is_green, "{text}");
    for part in [
        "job is red in /work/1/s as 1000",
        "azure-pipelines.yml",
        "other is green with shared",
        "host is colourless with shared",
        "reached git.local/9418",
        "reached localhost/19418",
    ] {
        assert!(text.contains(part), "{part}: {text}\n{}", world.logs());
    }
    let logs = world.logs();
    for part in ["The service 'git.local' listens on port 9418.", "--cap-add NET_ADMIN"] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    world.no_pod_is_left();
}

/// What runs in the container has the step host's own user, and gets nowhere: not to its socket, its memory
/// and its descriptors, not to the worker's token, and no signal ends it.
#[test]
fn a_hostile_step_cannot_reach_the_step_host() {
    let Some(world) = World::new("host", 1) else { return };
    let (is_green, text) = world
        .queue(
            "pool: k8s\nsteps:\n- bash: |\n    \
             for n in {1..50}; do for signal in KILL STOP TERM INT HUP SEGV BUS ABRT CHLD; do kill -$signal 1; done; done\n    \
             test -d /var/run/dayfly-step-hosts && echo sockets: [$(ls -A /var/run/dayfly-step-hosts)]\n    \
             test -e /var/run/dayfly/token || echo no token\n    \
             { cat /proc/1/environ || echo no environment; } 2>/dev/null | tr '\\0' ' '\n    \
             { cat /proc/1/mem || echo no memory; } 2>/dev/null\n    \
             ls -l /proc/1/fd >/dev/null 2>&1 || echo no descriptors\n    \
             (sleep 1000 & disown) ; setsid sleep 1000 & disown\n\
             - bash: echo still served, with $(ls -d /proc/[0-9]* | wc -l) processes\n",
        )
        .end();
    assert!(is_green, "{text}");
    for part in ["sockets: []", "no token", "no environment", "no memory", "no descriptors", "still served"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    world.no_pod_is_left();
}

/// With the login of a service connection, which comes with the job's message.
#[test]
fn a_container_comes_from_a_registry_that_wants_the_login_of_the_job() {
    let Some(registry) = Registry::with_login("ada", PAT) else { return };
    let url = format!("http://{}", registry.address);
    let library = format!(
        "[variable-groups.registry]\nplace = 'the registry'\n\n\
         [service-connections.images]\nurl = '{url}'\ntype = 'dockerregistry'\nscheme = 'UsernamePassword'\n\
         parameters = {{ registry = '{url}', username = 'ada', password = {{ file = 'pat' }} }}\n"
    );
    let differences = Differences { library, ..Differences::default() };
    let Some(world) = World::without_agents("login", 1, &differences) else { return };
    world.has_online(1);
    let run = world.queue(
        "resources: { containers: [{ container: tools, image: dayfly-test-private:1, endpoint: images }] }\n\
         variables: [{ group: registry }]\npool: k8s\ncontainer: tools\nsteps:\n\
         - bash: echo pulled from $(place)\n",
    );
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("pulled from the registry"), "{text}\n{}", world.logs());
    assert!(registry.refused() > 0, "the registry asked for the login");
    let everything = format!("{text}{}", world.logs());
    assert!(!everything.contains(PAT), "{everything}");
    world.no_pod_is_left();
    // The cluster deletes what belonged to the pod.
    let logins = ["get", "secrets", "--field-selector=type=kubernetes.io/dockerconfigjson", "--output=name"];
    eventually("no login is left", || world.kubectl(&logins).is_empty().then_some(()));
}

#[test]
fn one_container_a_copied_program_and_a_template_make_a_pod_as_well() {
    let spec = "  layout: OneContainer\n  delivery: Copy\n  template:\n    metadata: { labels: { team: a } }\n    \
                spec: { volumes: [{ name: work, emptyDir: { sizeLimit: 100Mi } }] }\n";
    let Some(world) = World::with("layout", 1, spec) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; while [ ! -e /work/go ]; do sleep 0.1; done; echo went\n");
    let pod = world.pod_whose_step_began();
    let at = format!("pod/{pod}");
    assert_eq!(world.get(&at, "{.metadata.labels.team}"), "a");
    assert_eq!(world.get(&at, "{.spec.containers[*].name}"), "agent");
    assert_eq!(world.get(&at, "{.spec.volumes[?(@.name=='work')].emptyDir.sizeLimit}"), "100Mi");
    assert_eq!(world.get(&at, "{.spec.volumes[?(@.name=='dayfly')].emptyDir}"), "{}");
    world.kubectl(&["exec", &pod, "--", "touch", "/work/go"]);
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("went"), "{text}");
}

#[test]
fn a_container_job_on_a_set_for_one_container_is_refused_with_advice() {
    let Some(world) = World::with("refused", 1, "  layout: OneContainer\n") else { return };
    let image = &world.cluster.job_image;
    let run = world.queue(&format!("pool: k8s\ncontainer: {image}\nsteps:\n- bash: echo never\n"));
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("use `layout: TwoContainers`"), "{text}");
}
