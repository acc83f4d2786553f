//! Jobs that build images, in pods without a Docker daemon and without privileges.

use dayfly_testing::skip;

use crate::world::{Differences, World};

/// The set of agents that users start from.
const EXAMPLE: &str = include_str!("../../../../examples/builds.yaml");

#[test]
fn an_image_is_built_and_pushed_and_runs_as_a_container() {
    let variables = ["DAYFLY_TEST_BUILD_IMAGE", "DAYFLY_TEST_REGISTRY"].map(|name| std::env::var(name).ok());
    let [Some(image), Some(registry)] = variables else {
        skip(
            "set DAYFLY_TEST_BUILD_IMAGE to an image with git, bash, curl and buildah, and DAYFLY_TEST_REGISTRY to \
             the address of a registry without TLS that has the image dayfly-test-private:1",
        );
        return;
    };
    let (_, of_builds) = EXAMPLE.split_once("  containerUser").expect("the example says who steps are");
    let differences = Differences {
        spec: format!("  image: {image}\n  containerUser{of_builds}"),
        // As restricted, but a pod may have the capabilities that a namespace of users needs.
        pod_security: Some("baseline"),
        library: format!(
            "[service-connections.images]\nurl = 'http://{registry}'\ntype = 'dockerregistry'\n\
             scheme = 'UsernamePassword'\n\
             parameters = {{ registry = 'http://{registry}', username = 'ada', password = {{ file = 'pat' }} }}\n"
        ),
        ..Differences::default()
    };
    let Some(world) = World::without_agents("builds", 2, &differences) else { return };
    world.has_online(2);
    let repository = format!("{}/app", world.namespace);
    let run = world.queue(&format!(
        "resources: {{ containers: [{{ container: built, image: '{repository}:$(Build.BuildId)', endpoint: images }}] }}
pool: k8s
jobs:
- job: Build
  steps:
  - checkout: none
  - bash: |
      printf '[[registry]]\\nlocation = \"{registry}\"\\ninsecure = true\\n' >/etc/containers/registries.conf
      printf 'FROM {registry}/dayfly-test-private:1\\nRUN echo built of $(id -u) >/made\\n' >Dockerfile
  - task: Docker@2
    inputs: {{ containerRegistry: images, repository: {repository}, Dockerfile: Dockerfile }}
  - bash: ls $(Agent.TempDirectory); grep Uid /proc/self/status
- job: Use
  dependsOn: Build
  container: built
  steps:
  - checkout: none
  - bash: cat /made
"
    ));
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("built of 0"), "{text}\n{}", world.logs());
    assert!(!text.contains("DockerConfig_"), "no login is left: {text}");
    world.no_pod_is_left();
}
