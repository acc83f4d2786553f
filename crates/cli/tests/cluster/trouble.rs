//! What goes wrong with pods is told in the build.

use crate::registry::Registry;
use crate::world::{Cluster, World, apply, eventually, kubectl};

#[test]
fn an_image_that_cannot_be_pulled_is_told_and_fails_the_job() {
    let Some(world) = World::with("image", 1, "  image: 127.0.0.1:9/no/such-image:1\n") else { return };
    let run = world.queue("pool: k8s\nsteps:\n- script: echo never\n");
    run.says("127.0.0.1:9/no/such-image:1");
    let (is_green, text) = run.end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    world.no_pod_is_left();
}

/// Four jobs whose images are wrong in four ways.
#[test]
fn images_that_cannot_be_pulled_are_told_apart() {
    let Some(locked) = Registry::with_login("ada", "nobody-knows-it") else { return };
    let open = std::env::var("DAYFLY_TEST_REGISTRY").expect("there is one");
    let Some(world) = World::with("images", 4, "  timeouts: { imageSeconds: 10 }\n") else { return };
    let locked = locked.address;
    let images = [
        (format!("{open}/no-such-image:1"), "there is none of this name"),
        (format!("{locked}/dayfly-test-private:1"), "the registry refuses the login"),
        ("127.0.0.1:9/no/such-image:1".to_owned(), "the registry cannot be reached"),
        ("Not/An:Image:Name".to_owned(), "is not the name of an image"),
    ];
    let job = |number, image| {
        format!("- job: j{number}\n  container: {{ image: \"{image}\" }}\n  steps:\n  - bash: echo never\n")
    };
    let jobs = images.iter().enumerate().map(|(number, (image, _))| job(number, image));
    let (is_green, text) = world.queue(&format!("pool: k8s\njobs:\n{}", jobs.collect::<String>())).end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    // Where the worker has an image of its own, it ends the job itself.
    assert!(text.contains("failed") && !text.contains("cancelled"), "{text}");
    for (image, what) in &images {
        let is_told = |line: &str| line.contains(image.as_str()) && line.contains(what);
        assert!(text.lines().any(is_told), "{image} {what}: {text}");
    }
    world.no_pod_is_left();
}

/// The worker has the job by then. What needs no container of the job's still runs.
#[test]
fn a_container_that_cannot_be_had_fails_its_steps_and_the_job_goes_on() {
    let open = std::env::var("DAYFLY_TEST_REGISTRY").unwrap_or_default();
    let Some(world) = World::with("lost", 1, "  timeouts: { imageSeconds: 10 }\n") else { return };
    let run = world.queue(&format!(
        "pool: k8s\ncontainer: \"{open}/no-such-image:1\"\nsteps:\n- bash: echo never\n\
         - bash: echo cleaned up\n  condition: always()\n  target: host\n"
    ));
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up") && !text.contains("never\n"), "{text}");
    assert!(text.contains("nothing can run in the container 'job': The image"), "{text}");
    assert!(text.contains("failed") && !text.contains("cancelled"), "{text}");
    world.no_pod_is_left();
}

#[test]
fn an_init_container_that_fails_fails_the_job_with_its_last_words() {
    let image = Cluster::find().map(|cluster| cluster.job_image).unwrap_or_default();
    let spec = format!(
        "  image: {image}\n  template: {{ spec: {{ initContainers: [{{ name: prepare, image: {image}, command: [sh, -c, \"echo no \
         vault; exit 5\"], securityContext: {{ allowPrivilegeEscalation: false, capabilities: {{ drop: [ALL] }} \
         }} }}] }} }}\n"
    );
    let Some(world) = World::with("init", 1, &spec) else { return };
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo never\n").end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    for part in ["The init container prepare ended with exit code 5", "no vault"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    world.no_pod_is_left();
}

/// Until the worker has the job, another pod does as well.
#[test]
fn a_pending_pod_that_is_evicted_is_replaced() {
    let Some(label) = Label::new() else { return };
    let spec = format!("  template: {{ spec: {{ nodeSelector: {{ {}: here }} }} }}\n", label.name);
    let Some(world) = World::with("replaced", 1, &spec) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo at last\n");
    world.is_told_why_it_waits("didn't match");
    let uids = || world.get("pods", "{.items[*].metadata.uid}");
    let first = uids();
    for pod in world.pods() {
        world.evict(&pod).expect("nothing protects a pod that waits");
    }
    eventually("there is another pod", || {
        let now = uids();
        (!now.is_empty() && !now.contains(&first)).then_some(())
    });
    label.give();
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("at last"), "{text}\n{}", world.logs());
    world.no_pod_is_left();
}

/// A label that the first node may have.
struct Label {
    name: String,
}

impl Label {
    /// `None` if there is no cluster.
    fn new() -> Option<Self> {
        Cluster::find()?;
        Some(Self { name: format!("dayfly.test/label-{}", std::process::id()) })
    }

    fn give(&self) {
        self.set("=here");
    }

    fn set(&self, value: &str) {
        let node = kubectl(&["get", "nodes", "--output=jsonpath={.items[0].metadata.name}"]);
        kubectl(&["label", "node", &node, &format!("{}{value}", self.name)]);
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        self.set("-");
    }
}

#[test]
fn a_pod_that_somebody_deletes_ends_its_job_properly() {
    let Some(world) = World::new("gone", 1) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    let pod = world.pod_whose_step_began();
    world.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    world.no_pod_is_left();
}

#[test]
fn a_pod_that_is_killed_fails_its_job_with_the_reason() {
    let Some(world) = World::new("killed", 1) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n");
    let pod = world.pod_whose_step_began();
    world.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains(&pod), "{text}");
    world.no_pod_is_left();
}

/// As `kubectl drain` does it: nothing happens as long as the job runs, unless somebody takes its protection
/// away. Then the worker ends the job properly.
#[test]
fn a_busy_pod_is_evicted_only_without_its_protection() {
    let Some(world) = World::new("evicted", 1) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    let pod = world.pod_whose_step_began();
    let refusal = world.evict(&pod).expect_err("it is protected");
    assert!(refusal.contains("disruption budget"), "{refusal}");
    world.kubectl(&["delete", "poddisruptionbudget", "dayfly-linux"]);
    eventually("it can be evicted", || world.evict(&pod).ok());
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    world.no_pod_is_left();
}

/// The node has room for one of the two, by a resource that only this test knows; so the scheduler takes it
/// from the job for a pod of higher priority.
#[test]
fn a_pod_that_must_make_room_for_another_says_so_and_ends_its_job_properly() {
    let Some(room) = Room::new() else { return };
    let request = format!("resources: {{ limits: {{ {}: 1 }} }}", room.resource);
    let spec = format!("  template: {{ spec: {{ containers: [{{ name: job, {request} }}] }} }}\n");
    let Some(world) = World::with("preempted", 1, &spec) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    world.pod_whose_step_began();
    let image = &world.cluster.job_image;
    let priority = &room.priority_class;
    world.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: urgent }}\nspec:\n  priorityClassName: {priority}\n  \
         restartPolicy: Never\n  securityContext: {{ runAsNonRoot: true, runAsUser: 1000, \
         seccompProfile: {{ type: RuntimeDefault }} }}\n  containers:\n  - name: urgent\n    image: {image}\n    \
         command: [sleep, \"300\"]\n    securityContext: {{ allowPrivilegeEscalation: false, \
         capabilities: {{ drop: [ALL] }} }}\n    {request}\n"
    ));
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    let logs = world.logs();
    assert!(logs.contains("The pod must make room for one of higher priority"), "it is in the build: {logs}");
    eventually("the other pod has the room", || {
        (world.get("pod/urgent", "{.status.phase}") == "Running").then_some(())
    });
}

/// A resource of which the node has one, and a class of pods that may take it from others.
struct Room {
    resource: String,
    priority_class: String,
}

impl Room {
    /// `None` if there is no cluster.
    fn new() -> Option<Self> {
        Cluster::find()?;
        let number = std::process::id();
        let room = Self {
            resource: format!("dayfly.test/room-{number}"),
            priority_class: format!("dayfly-urgent-{number}"),
        };
        room.patch("add", r#","value":"1""#);
        apply(&format!(
            "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{ name: {} }}\nvalue: 1000000\n\
             description: A test of Dayfly's.\n",
            room.priority_class
        ));
        Some(room)
    }

    /// Changes what the first node has.
    fn patch(&self, operation: &str, value: &str) {
        let node = kubectl(&["get", "nodes", "--output=jsonpath={.items[0].metadata.name}"]);
        let resource = self.resource.replace('/', "~1");
        let patch = format!(r#"[{{"op":"{operation}","path":"/status/capacity/{resource}"{value}}}]"#);
        kubectl(&["patch", "node", &node, "--subresource=status", "--type=json", "--patch", &patch]);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.patch("remove", "");
        kubectl(&["delete", "priorityclass", &self.priority_class]);
    }
}

/// The pod is pending all the time; the scheduler's own words are in the build, and a cancellation is carried
/// out at once.
#[test]
fn a_job_without_a_node_says_so_and_can_be_cancelled() {
    let spec =
        "  template: { spec: { containers: [{ name: job, resources: { requests: { cpu: \"900\" } } }] } }\n";
    let Some(world) = World::with("pending", 1, spec) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo never\n");
    world.is_told_why_it_waits("Insufficient cpu");
    world.kubectl(&["delete", "pipelinejobs", "--all", "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    assert!(world.logs().contains("Insufficient cpu"), "it is in the build: {}", world.logs());
    world.no_pod_is_left();
}

#[test]
fn a_job_waits_for_a_quota_and_says_so() {
    let Some(world) = World::new("quota", 1) else { return };
    let quota = |pods| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{ name: few }}\nspec: {{ hard: {{ pods: \"{pods}\" }} }}\n"
        )
    };
    world.apply(&quota(0));
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo at last\n");
    world.is_told_why_it_waits("exceeded quota: few");
    world.apply(&quota(1));
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("at last"), "{text}");
    assert!(world.logs().contains("exceeded quota: few"), "it is in the build: {}", world.logs());
}

#[test]
fn a_record_that_is_deleted_ends_a_job_that_has_no_pod() {
    let Some(world) = World::new("podless", 1) else { return };
    world.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: none }\nspec: { hard: { pods: \"0\" } }\n",
    );
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo never\n");
    world.is_told_why_it_waits("exceeded quota: none");
    world.kubectl(&["delete", "pipelinejobs", "--all", "--timeout=60s"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("its PipelineJob was deleted"), "{text}");
}

/// The worker outlives its steps: the step fails, and what always runs does.
#[test]
fn a_step_that_uses_too_much_memory_fails_and_the_job_goes_on() {
    let spec =
        "  template: { spec: { containers: [{ name: job, resources: { limits: { memory: 64Mi } } }] } }\n";
    let Some(world) = World::with("memory", 1, spec) else { return };
    let (is_green, text) = world
        .queue(
            "pool: k8s\nsteps:\n- bash: x=$(tail -c 500000000 /dev/zero | tr '\\0' x); echo ${#x}\n\
             - bash: echo cleaned up\n  condition: always()\n  target: host\n",
        )
        .end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    // One process is killed, or its whole container: that is the cluster's choice.
    assert!(text.contains("memory"), "{text}");
    world.no_pod_is_left();
}
