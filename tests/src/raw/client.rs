//! A client that sends bytes as a script says, and reads what comes as strictly as it can be read.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::message::{self, Message, Read};
use super::script::{PAUSE, Step};

/// How a client goes about it.
#[derive(Debug, Clone)]
pub struct Manner<'a> {
    /// The method of each request, as far as they are known; `GET` past that.
    pub methods: &'a [String],
    /// How many answers are awaited. Fewer may come, and the connection may end.
    pub answers: usize,
    /// One byte in each write.
    pub by_byte: bool,
    /// Sent on the same connection once the answers are there, to see whether both ends still agree where a message
    /// begins. It must ask for the connection to be closed.
    pub probe: Option<Vec<u8>>,
    /// All of it must end within this time.
    pub bound: Duration,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
    /// It did not, within the bound.
    Open,
}

/// What a client saw.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Whole answers, but for the interim ones. The probe's is among them.
    pub answers: Vec<Message>,
    /// Interim answers, 100 to 199.
    pub interim: Vec<Message>,
    /// An answer that was not whole when the connection ended.
    pub partial: Option<Message>,
    /// Why what came is no answer.
    pub bad: Option<String>,
    pub end: End,
    pub took: Duration,
}

/// Fewer answers than awaited, and nothing more for this long: the probe is sent nevertheless.
const QUIET: Duration = Duration::from_millis(1_500);

/// Room for one read.
const READ_BYTES: usize = 16 << 10;

/// Goes through a script on a connection of its own.
pub async fn converse(address: SocketAddr, script: &[Step], manner: &Manner<'_>) -> Heard {
    let began = Instant::now();
    let deadline = began + manner.bound;
    let stream = TcpStream::connect(address).await.expect("what is under test listens");
    stream.set_nodelay(true).expect("an option of every socket");
    let (input, output) = stream.into_split();
    let mut talk =
        Talk { input, output: Some(output), bytes: Vec::new(), end: None, at: 0, heard: Vec::new(), manner };
    let talked = tokio::time::timeout_at(deadline, talk.perform(script)).await;
    if talked.is_ok() {
        let rest = talk.listen();
        // Past the bound, what has come is what there is.
        let _ = tokio::time::timeout_at(deadline, rest).await;
    }
    talk.finish(began.elapsed())
}

struct Talk<'a> {
    input: OwnedReadHalf,
    /// Gone once the sending half is closed.
    output: Option<OwnedWriteHalf>,
    bytes: Vec<u8>,
    end: Option<End>,
    /// Up to here the bytes are `heard`.
    at: usize,
    heard: Vec<Message>,
    manner: &'a Manner<'a>,
}

impl Talk<'_> {
    async fn perform(&mut self, script: &[Step]) {
        for step in script {
            match step {
                Step::Send(bytes) if self.manner.by_byte => {
                    for byte in bytes {
                        self.send(std::slice::from_ref(byte)).await;
                        tokio::task::yield_now().await;
                    }
                }
                Step::Send(bytes) => self.send(bytes).await,
                Step::Pause => self.hear_for(PAUSE).await,
                Step::Fin | Step::Close => {
                    if let Some(mut output) = self.output.take() {
                        // It may be closed from the other side already.
                        let _ = output.shutdown().await;
                    }
                }
                Step::Reset => {
                    if let Some(output) = self.output.take() {
                        let _ = output.as_ref().set_zero_linger();
                    }
                    self.end = Some(End::Reset);
                }
                Step::Await(bytes) => {
                    while self.end.is_none() && !contains(&self.bytes, bytes) {
                        self.hear().await;
                    }
                }
            }
        }
    }

    /// Reads meanwhile, so that neither side waits for the other. A connection that does not take it is one that ends.
    async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.end.is_none() {
            let Some(output) = &mut self.output else { return };
            self.bytes.reserve(READ_BYTES);
            tokio::select! {
                biased;
                written = output.write(bytes) => if let Ok(length) = written {
                    bytes = &bytes[length..];
                } else {
                    self.output = None;
                },
                read = self.input.read_buf(&mut self.bytes) => self.end = end_of(&read),
            }
        }
    }

    async fn hear(&mut self) {
        self.bytes.reserve(READ_BYTES);
        self.end = end_of(&self.input.read_buf(&mut self.bytes).await);
    }

    async fn hear_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.end.is_none() && tokio::time::timeout_at(end, self.hear()).await.is_ok() {}
    }

    /// To the end of the connection, with the probe where it is due.
    async fn listen(&mut self) {
        let mut probed = false;
        loop {
            self.read_answers();
            if self.end.is_some() {
                return;
            }
            let final_answers = self.final_answers();
            if probed {
                self.hear().await;
                continue;
            }
            let quiet =
                if final_answers == 0 || self.manner.probe.is_none() { self.manner.bound } else { QUIET };
            let due = final_answers >= self.manner.answers
                || tokio::time::timeout(quiet, self.hear()).await.is_err();
            if let (true, Some(probe)) = (due, &self.manner.probe) {
                probed = true;
                self.send(probe).await;
            } else if due {
                self.hear().await;
            }
        }
    }

    fn final_answers(&self) -> usize {
        self.heard.iter().filter(|answer| answer.status() >= 200).count()
    }

    fn method(&self) -> &str {
        self.manner.methods.get(self.final_answers()).map_or("GET", String::as_str)
    }

    fn read_answers(&mut self) {
        while let Read::Whole { message, length } =
            message::answer(&self.bytes[self.at..], self.method(), self.end == Some(End::Closed))
        {
            if length == 0 {
                return;
            }
            self.at += length;
            self.heard.push(message);
        }
    }

    fn finish(mut self, took: Duration) -> Heard {
        // A reset is no end of a body that only the end of the connection ends.
        self.read_answers();
        let rest = &self.bytes[self.at..];
        let (partial, bad) = match message::answer(rest, self.method(), false) {
            _ if rest.is_empty() => (None, None),
            Read::Bad { why } => (None, Some(why)),
            Read::Partial { head: Some(head) } => (Some(head), None),
            Read::Partial { head: None } => (None, Some("a head that does not end".to_owned())),
            Read::Whole { .. } => (None, Some("an answer to nothing".to_owned())),
        };
        let (answers, interim) = self.heard.into_iter().partition(|answer| answer.status() >= 200);
        let end = self.end.unwrap_or(End::Open);
        Heard { answers, interim, partial, bad, end, took }
    }
}

fn end_of(read: &io::Result<usize>) -> Option<End> {
    match read {
        Ok(0) => Some(End::Closed),
        Ok(_) => None,
        Err(_) => Some(End::Reset),
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
