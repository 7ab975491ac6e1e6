//! Writes a message's content behind its head.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes};
use http::HeaderMap;

use super::conn::{Broken, Conn};
use super::encode::{self, Encoding};
use crate::leg::body::BodyError;
use crate::leg::pump::{PumpError, Sink};

/// Data up to this size is copied behind what waits already, so that a head and small content become one write. 8 KiB:
/// copying that much costs less than a system call.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// What may wait before it must be written, in bytes. 16 KiB: a TLS record.
const GATHERED_BYTES_MAX: usize = 16 << 10;

pub struct H1Sink {
    conn: Rc<Conn>,
    encoding: Encoding,
    /// What is left of the chunk whose size was written.
    chunk_left: usize,
    ended: bool,
}

impl H1Sink {
    pub fn new(conn: &Rc<Conn>, encoding: Encoding) -> Self {
        Self { conn: Rc::clone(conn), encoding, chunk_left: 0, ended: encoding == Encoding::None }
    }

    /// Copies `data` behind what waits.
    fn gather(&mut self, data: &mut Bytes) {
        if let Encoding::Length(left) = &mut self.encoding {
            *left -= data.len() as u64;
        }
        let chunked = self.encoding == Encoding::Chunked;
        let mut output = self.conn.output.borrow_mut();
        if chunked {
            encode::chunk_size(&mut output, data.len());
        }
        output.put_slice(data);
        if chunked {
            output.put_slice(b"\r\n");
        }
        data.clear();
    }

    /// Writes `data` without copying it.
    fn poll_write(&mut self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.encoding == Encoding::Chunked && self.chunk_left == 0 {
            encode::chunk_size(&mut self.conn.output.borrow_mut(), data.len());
            self.chunk_left = data.len();
        }
        let before = data.len();
        let polled = self.conn.poll_write(data, cx);
        if self.encoding == Encoding::Raw && matches!(polled, Poll::Ready(Err(_))) {
            self.conn.broken.set(true);
        }
        let written = before - data.len();
        match &mut self.encoding {
            Encoding::Length(left) => *left -= written as u64,
            Encoding::Chunked if written > 0 => {
                self.chunk_left -= written;
                if self.chunk_left == 0 {
                    self.conn.output.borrow_mut().put_slice(b"\r\n");
                }
            }
            Encoding::Chunked | Encoding::None | Encoding::Raw => {}
        }
        polled.map_err(Broken::Io)
    }
}

fn sink(error: Broken) -> PumpError {
    PumpError::Sink(BodyError::H1(error))
}

impl Sink for H1Sink {
    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<PumpError> {
        Poll::Pending
    }

    fn poll_data(
        &mut self,
        data: &mut Bytes,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        let too_long = match self.encoding {
            Encoding::Length(left) => data.len() as u64 > left,
            Encoding::None => !data.is_empty(),
            Encoding::Chunked | Encoding::Raw => false,
        };
        if too_long {
            return Poll::Ready(Err(sink(Broken::Length)));
        }
        if self.conn.unwritten() > GATHERED_BYTES_MAX {
            ready!(self.poll_flush(cx))?;
        }
        if data.len() <= COPIED_BYTES_MAX && self.chunk_left == 0 {
            if !data.is_empty() {
                self.gather(data);
            }
        } else {
            ready!(self.poll_write(data, cx)).map_err(sink)?;
        }
        Poll::Ready(if last && data.is_empty() { self.end(None) } else { Ok(()) })
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), PumpError> {
        match self.encoding {
            Encoding::Length(left) if left > 0 => return Err(sink(Broken::Length)),
            Encoding::Chunked if !self.ended => {
                encode::last_chunk(&mut self.conn.output.borrow_mut(), trailers.as_ref());
            }
            Encoding::Chunked | Encoding::None | Encoding::Length(_) | Encoding::Raw => {}
        }
        self.ended = true;
        self.conn.written();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        ready!(self.conn.poll_flush(cx)).map_err(|error| sink(error.into()))?;
        if self.ended && self.encoding == Encoding::Raw {
            // The end of a tunnel, or of content that ends with its connection, is the end of what we write.
            ready!(self.conn.poll_shutdown(cx)).map_err(|error| sink(error.into()))?;
        }
        Poll::Ready(Ok(()))
    }

    /// What was announced does not come: the connection's end will say so. Where nothing was announced, it has to be no ordinary end.
    fn abort(&mut self) {
        if self.encoding == Encoding::Raw {
            self.conn.break_off();
        }
    }
}
