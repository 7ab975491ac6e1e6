//! What a server hands its requests to.

use http::{Request, Response};

use super::body::Body;
use super::h1::malformed::Malformed;
use super::interim::Interim;
use crate::pipeline::answer::Answer;

pub trait Service {
    /// Answers a request. The future is dropped where the client goes away.
    fn serve(
        &self,
        request: Request<Body>,
        interim: Interim,
    ) -> impl Future<Output = Response<Answer>> + 'static;

    /// Answers what is no request.
    fn refuse_malformed(&self, malformed: Malformed) -> Response<Answer>;

    /// Something was wrong with a request's content, which was not whole.
    fn content_was(&self, malformed: Malformed);
}
