//! What `--help` says.

use super::Transcript;

#[tokio::test]
async fn every_command_says_what_it_does_and_takes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, command) in [
        ("help", ""),
        ("help_demo", "demo"),
        ("help_up", "up"),
        ("help_coordinator", "coordinator"),
        ("help_agent", "agent"),
        ("help_task", "task"),
        ("help_task_list", "task list"),
        ("help_task_show", "task show"),
        ("help_task_cancel", "task cancel"),
        ("help_task_retry", "task retry"),
        ("help_queue", "queue"),
        ("help_queue_show", "queue show"),
        ("help_queue_pause", "queue pause"),
        ("help_queue_resume", "queue resume"),
        ("help_model", "model"),
        ("help_model_list", "model list"),
        ("help_model_show", "model show"),
        ("help_model_import", "model import"),
        ("help_doctor", "doctor"),
        ("help_backup", "backup"),
        ("help_restore", "restore"),
        ("help_simulator", "simulator"),
        ("help_simulator_github", "simulator github"),
        ("help_model_simulator", "model-simulator"),
        ("help_migrate", "migrate"),
    ] {
        let mut shell = Transcript::new(folder.path());
        let words = command.split_whitespace().chain(["--help"]);
        shell.run(&words.collect::<Vec<_>>()).await;
        shell.matches(name);
    }
}
