//! A shard's retry tokens: spent without a message, asked for in blocks.

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::Message;

use super::breaker::Urgency;
use super::budget::Block;
use super::budget::machine::Rest;
use super::digest::Spent;
use super::share::Share;

/// An actor answers in microseconds; a retry that waits for longer is not worth it.
pub(super) const ASK_MAX: Duration = Duration::from_millis(20);

/// A shard has a retry and no token; with what it has spent of its last block. From a shard. Lost: there is no retry.
#[derive(Debug, Clone, Copy)]
pub struct AskTokens(pub Option<Spent>);

impl Message for AskTokens {
    type Result = Option<Block>;
}

/// There is none: the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken;

impl Share {
    /// A first attempt begins: requests are what the budget is a share of.
    pub fn began(self: &Rc<Self>) {
        self.pending.borrow_mut().began += 1;
        self.note(Urgency::Later);
    }

    /// Spends a token for a retry that is sent now. Of many that have none, one asks: a block for each would be a budget lost.
    pub async fn spend_token(self: &Rc<Self>) -> Result<(), NoToken> {
        if self.take_token() {
            return Ok(());
        }
        if self.asks_for_tokens.get() {
            let waited = actix_rt::time::timeout(ASK_MAX, self.wait_for_block()).await;
            if waited.map_err(|_| NoToken)?? == Waited::Took {
                return Ok(());
            }
        }
        let _asks = AsksForTokens::begin(self);
        let rest = self
            .block
            .take()
            .map(|block| Spent { rest: Rest::Dropped, ..spent(&block, self.block_size.get()) });
        let answer = self.upstream.question(AskTokens(rest), ASK_MAX).await;
        let Some(block) = answer.flatten() else {
            self.blocks_refused.set(self.blocks_refused.get() + 1);
            return Err(NoToken);
        };
        self.block_size.set(block.tokens);
        self.block.set(Some(block));
        if self.take_token() { Ok(()) } else { Err(NoToken) }
    }

    async fn wait_for_block(self: &Rc<Self>) -> Result<Waited, NoToken> {
        while self.asks_for_tokens.get() {
            let refused = self.blocks_refused.get();
            self.block_came.notified().await;
            if self.blocks_refused.get() != refused {
                return Err(NoToken);
            }
            if self.take_token() {
                return Ok(Waited::Took);
            }
        }
        Ok(Waited::MayAsk)
    }

    fn take_token(self: &Rc<Self>) -> bool {
        let Some(mut block) = self.block.get() else { return false };
        let taken = block.take(Instant::now()).is_some();
        self.block.set(Some(block));
        if taken {
            self.pending.borrow_mut().spent = Some(spent(&block, self.block_size.get()));
            self.note(Urgency::Later);
        }
        taken
    }
}

/// What came of waiting for who asks already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Took,
    /// There is none left of it, and nobody asks.
    MayAsk,
}

/// Its drop, also where whoever asked has gone, lets the next ask.
struct AsksForTokens<'s>(&'s Share);

impl<'s> AsksForTokens<'s> {
    fn begin(share: &'s Share) -> Self {
        share.asks_for_tokens.set(true);
        Self(share)
    }
}

impl Drop for AsksForTokens<'_> {
    fn drop(&mut self) {
        self.0.asks_for_tokens.set(false);
        self.0.block_came.notify_waiters();
    }
}

fn spent(block: &Block, of: u32) -> Spent {
    Spent { number: block.number, tokens: of - block.tokens, rest: Rest::Kept }
}
