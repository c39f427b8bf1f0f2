//! Stages that end, asked and unasked.

use tokio::sync::oneshot;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

struct Scene {
    running: Running,
    liveness: Liveness,
    shutdown: CancellationToken,
}

impl Scene {
    /// Two stages that go on until they are asked to end: `dispatch` and `http`.
    fn new() -> Self {
        let (liveness, shutdown) = (Liveness::default(), CancellationToken::new());
        let mut running = Running::new(&liveness, &shutdown);
        let (stop, stop_http) = (running.loops.stop(), running.http.stop());
        running.loops.start("dispatch", stop.cancelled_owned());
        running.http.start("http", stop_http.cancelled_owned());
        Self {
            running,
            liveness,
            shutdown,
        }
    }

    async fn join(self) -> Result<(), StageEnded> {
        self.running.join(self.shutdown, DEADLINE).await
    }
}

#[tokio::test(start_paused = true)]
async fn stages_that_are_asked_to_end_are_no_fault() {
    let scene = Scene::new();
    let liveness = scene.liveness.clone();
    scene.shutdown.cancel();
    assert_eq!(scene.join().await, Ok(()));
    assert_eq!(liveness.ended(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_returns_fails_or_panics_unasked_is_named_and_ends_the_others() {
    let mut scene = Scene::new();
    scene.running.loops.start("outbox", async {});
    let ended = scene.join().await.unwrap_err();
    assert_eq!(ended, StageEnded::returned("outbox"));

    let mut scene = Scene::new();
    let fails = async { Err(anyhow::anyhow!("the disk").context("can't listen")) };
    scene.running.http.try_start("intake", fails);
    let ended = scene.join().await.unwrap_err();
    assert_eq!(
        (ended.stage, ended.reason.as_str()),
        ("intake", "can't listen: the disk")
    );

    let mut scene = Scene::new();
    scene
        .running
        .loops
        .start("sweep", async { panic!("no such place") });
    let ended = scene.join().await.unwrap_err();
    assert_eq!(
        (ended.stage, ended.reason.as_str()),
        ("sweep", "it panicked: no such place")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_end_in_time_hides_no_fault() {
    let mut scene = Scene::new();
    scene.running.loops.start("outbox", std::future::pending());
    scene.running.loops.start("sweep", async {});
    assert_eq!(scene.join().await.unwrap_err().stage, "sweep");
}

#[tokio::test(start_paused = true)]
async fn the_interface_says_what_ended_until_everything_else_has() {
    let mut scene = Scene::new();
    let (let_go, wait) = oneshot::channel::<()>();
    let draining = scene.running.loops.stop();
    scene.running.loops.start("outbox", async move {
        draining.cancelled().await;
        let _ = wait.await;
    });
    scene.running.loops.start("sweep", async {});
    let (liveness, http) = (scene.liveness.clone(), scene.running.http.stop());
    let draining = scene.running.loops.stop();
    let looking = async {
        liveness.failed().await;
        draining.cancelled().await;
        assert_eq!(liveness.ended(), [StageEnded::returned("sweep")]);
        assert!(!http.is_cancelled(), "probes are still answered");
        let_go.send(()).unwrap();
        http.cancelled().await;
    };
    let (ended, ()) = tokio::join!(scene.join(), looking);
    assert!(ended.is_err());
}
