//! One pod per job: the custom resources, the controller, and the executor that runs workers in pods.
