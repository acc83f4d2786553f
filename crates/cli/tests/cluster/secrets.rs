//! Nothing in a pod is of use to anybody but the job.

use crate::world::{PAT, World};

#[test]
fn a_job_finds_no_login_of_ours_and_the_api_server_refuses_its_token() {
    let Some(world) = World::new("secrets", 1) else { return };
    let key = world.get(
        "secrets",
        "{.items[?(@.metadata.labels.app\\.kubernetes\\.io/managed-by=='dayfly')].data.key\\.json}",
    );
    assert!(!key.is_empty(), "the agents' key is there to be looked for");
    let (head, tail) = PAT.split_at(PAT.len() / 2);
    // The script must not find itself: the PAT is put together in the pod.
    let script = format!(
        "pool: k8s\nsteps:\n- bash: |\n    pat={head}\n    pat=$pat{tail}\n    printf %s $pat > /work/wanted\n    \
         found=$(grep -rlsF -f /work/wanted /var/run /etc /home /root /dayfly /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null)\n    \
         echo \"found: [$found]\"\n    \
         test ! -e /var/run/secrets/kubernetes.io && echo no usual token\n    \
         exec 3<>/dev/tcp/$KUBERNETES_SERVICE_HOST/443 && echo api reached || echo api not reached\n"
    );
    let run = world.queue(&script);
    let (_, text) = run.end();
    assert!(text.contains("found: []"), "{text}");
    assert!(text.contains("no usual token"), "{text}");
}

#[test]
fn the_token_of_a_pod_is_refused_by_the_api_server() {
    let Some(world) = World::new("token", 1) else { return };
    let _run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; sleep 20\n");
    let pod = world.pod_whose_step_began();
    let token = world.kubectl(&["exec", &pod, "--", "cat", "/var/run/dayfly/token"]);
    assert!(token.split('.').count() == 3, "it is a token");
    let refused = world.api_says(&token);
    assert!(refused == "401", "{refused}");
}
