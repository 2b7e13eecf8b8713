//! Answers what listens instead of a service that is not there: on the control thread, which may look at other processes.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::exposure::{Scene, absent_socket};
use crate::flow::{Question, Shared};

/// How long a look is good: there is at most one a second.
const GOOD: Duration = Duration::from_secs(1);
/// One that was dear (a host with very many descriptors) is good for longer: so many times as long as it took, up to `LONGEST`.
const DEAR: u32 = 10;
const LONGEST: Duration = Duration::from_secs(30);

/// Answers from now on, beside everything else; ends with the last one who could ask.
pub(super) fn answer(shared: &Shared) {
    if let Some(questions) = shared.questions.take() {
        tokio::spawn(answer_all(questions));
    }
}

async fn answer_all(mut questions: Receiver<Question>) {
    let mut last: Option<(Instant, Scene)> = None;
    while let Some(Question { place, answer }) = questions.recv().await {
        // Whoever has gone wants no look.
        if answer.is_closed() {
            continue;
        }
        let (dialled, port, path) = place;
        if let Some(path) = path {
            // A file system that hangs holds up this thread of the pool, and only while somebody waits for it.
            let told = spawn_blocking(move || absent_socket(&path)).await;
            let _ = told.map(|told| answer.send(told));
            continue;
        }
        let now = Instant::now();
        if last.as_ref().is_none_or(|(until, _)| now >= *until) {
            let Ok(Some(scene)) = spawn_blocking(Scene::look).await else {
                continue;
            };
            let good = (now.elapsed() * DEAR).clamp(GOOD, LONGEST);
            last = Some((Instant::now() + good, scene));
        }
        if let Some((_, scene)) = &last {
            let _ = answer.send(scene.tell(&dialled, port.unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn one_look_answers_many_and_sockets_in_files_too() {
        let (ask, questions) = mpsc::channel(8);
        tokio::spawn(answer_all(questions));
        let told = async |place| {
            let (answer, told) = oneshot::channel();
            ask.send(Question { place, answer }).await.unwrap();
            told.await.unwrap()
        };
        // Our own sockets are nobody else's.
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = own.local_addr().unwrap().port();
        let dialled = format!("127.0.0.1:{port}");
        for _ in 0..3 {
            let words = told((dialled.clone(), Some(port), None)).await;
            let instead = words.split_once("but ").map_or("", |(_, rest)| rest);
            let is_told = words.contains(&dialled) && !instead.contains(&dialled);
            assert!(is_told, "{words}");
        }
        let nowhere = std::path::PathBuf::from("/nonexistent/app.sock");
        let words = told((String::new(), None, Some(nowhere))).await;
        assert_eq!(words, "There is no socket /nonexistent/app.sock.");
    }
}
