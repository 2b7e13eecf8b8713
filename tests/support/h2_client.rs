//! A well-formed HTTP/2 client, from the h2 crate, for what is about bodies and not about frames.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::task::JoinHandle;

use super::{Client, Gate, soon};

/// An HTTP/2 connection to `app.lan`.
pub struct H2Client {
    send: SendRequest<Bytes>,
    end: JoinHandle<()>,
}

/// A stream under way: what is sent, and what will be answered.
pub struct Exchange {
    pub body: SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
}

impl H2Client {
    pub async fn open(gate: &Gate) -> Self {
        let client = Client::tls(gate.address, Some("app.lan"), "h2").await;
        let (send, connection) = soon("a handshake", h2::client::handshake(client.stream))
            .await
            .expect("HTTP/2");
        let end = tokio::spawn(async move { drop(connection.await) });
        Self { send, end }
    }

    /// Waits until the connection has ended.
    pub async fn closed(&mut self) {
        soon("an end", &mut self.end).await.expect("no panic");
    }

    /// Begins a request; `ended` when it has no body.
    pub async fn begin(&mut self, method: &str, path: &str, ended: bool) -> Exchange {
        let uri = format!("https://app.lan{path}");
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .expect("a request");
        self.send_request(request, ended).await
    }

    pub async fn send_request(&mut self, request: Request<()>, ended: bool) -> Exchange {
        let mut ready = soon("a free stream", self.send.clone().ready())
            .await
            .expect("a connection");
        let (answer, body) = ready.send_request(request, ended).expect("a stream");
        Exchange { body, answer }
    }

    /// A whole request without a body: status and body of its answer.
    pub async fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let mut answer = self.begin("GET", path, true).await.answer().await;
        let status = answer.status().as_u16();
        (status, rest(answer.body_mut()).await.0)
    }
}

impl Exchange {
    pub async fn answer(&mut self) -> Response<RecvStream> {
        self.try_answer().await.expect("an answer")
    }

    /// The same; or why there is none.
    pub async fn try_answer(&mut self) -> Result<Response<RecvStream>, h2::Error> {
        soon("an answer", &mut self.answer).await
    }

    /// Sends as much as there is room for until an answer comes, however long that takes to stop.
    pub async fn push_until_answered(&mut self) -> Response<RecvStream> {
        tokio::select! {
            answer = soon("an answer", &mut self.answer) => return answer.expect("an answer"),
            () = push(&mut self.body) => {}
        }
        self.answer().await
    }

    /// Sends one piece once there is room for it.
    pub async fn send(&mut self, piece: impl Into<Bytes>, end: bool) {
        let mut piece = piece.into();
        while !piece.is_empty() {
            self.body.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|cx| self.body.poll_capacity(cx));
            let room = soon("room", room)
                .await
                .expect("an open stream")
                .expect("room");
            let part = piece.split_to(room.min(piece.len()));
            self.body
                .send_data(part, end && piece.is_empty())
                .expect("an open stream");
        }
    }
}

/// Sends as much as there is room for, until the stream ends.
pub async fn push(body: &mut SendStream<Bytes>) {
    loop {
        body.reserve_capacity(64 << 10);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return };
        if body.send_data(vec![b'x'; room].into(), false).is_err() {
            return;
        }
    }
}

/// The next piece of an answer.
pub async fn piece(body: &mut RecvStream) -> Option<Bytes> {
    let data = soon("a piece", body.data()).await?.expect("data");
    body.flow_control()
        .release_capacity(data.len())
        .expect("room");
    Some(data)
}

/// The rest of an answer, and its trailers.
pub async fn rest(body: &mut RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut all = Vec::new();
    while let Some(data) = piece(body).await {
        all.extend_from_slice(&data);
    }
    let trailers = soon("trailers", body.trailers()).await.expect("trailers");
    (all, trailers.unwrap_or_default())
}
