//! One event a second for as long as somebody listens (text/event-stream, HTML 9.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::Either;
use jiff::Timestamp;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Body;
use crate::base::drain::{Phase, Watch};

/// A body that ends only with the drain. It makes an event when it is asked for one, so a slow reader piles up nothing.
pub struct Clock {
    tick: Interval,
    count: u64,
    drain: Watch,
}

impl Clock {
    /// The whole response.
    pub fn stream(drain: Watch) -> Response<Body> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let clock = Self {
            tick,
            count: 0,
            drain,
        };
        let mut response = Response::new(Either::Right(clock));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl HttpBody for Clock {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let _ = ready!(self.tick.poll_tick(context));
        if self.drain.phase() >= Phase::Drain {
            return Poll::Ready(None);
        }
        self.count += 1;
        let now = Timestamp::now();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let event = format!("id: {}\nretry: 2000\ndata: {now}\n\n", self.count);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
