//! `outrider token` and `outrider join-secret`: what a new sidecar shows to the control plane first.
//!
//! The credential alone goes to standard output, so that it can be redirected into a file; the rest is for eyes.

use clap::{Args, Subcommand};
use outrider_shared::ServiceId;
use outrider_shared::api::{MintAnswer, MintRequest};
use outrider_shared::units::GepDuration;
use serde::Serialize;

use crate::api::{Api, ApiArgs};
use crate::screen::{Output, Screen};

/// Credentials for one sidecar each.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Makes a token: good for one join of one service, for an hour unless --ttl says otherwise.
    #[command(after_help = "Example:\n  outrider token create --service shop/orders > orders.token")]
    Create(MintArgs),
}

/// Credentials for any number of sidecars of one service.
#[derive(Debug, Subcommand)]
pub enum JoinSecret {
    /// Makes a join secret: good for every sidecar of one service, until it is revoked.
    #[command(after_help = "Example:\n  outrider join-secret create --service shop/orders > orders.join")]
    Create(MintArgs),
    /// Revokes a join secret: nobody joins with it any more. Sidecars that have joined stay.
    #[command(after_help = "Example:\n  outrider join-secret revoke js-4f9c")]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct MintArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The service that whoever shows it may join as.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: ServiceId,
    /// How long it may be shown, as 30m or 24h.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<GepDuration>,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The id that `create` told.
    #[arg(value_name = "ID", value_parser = credential_id)]
    id: String,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// Answer to a revocation.
#[derive(Debug, Serialize)]
struct Revoked<'a> {
    revoked: &'a str,
}

/// Ids are made of letters, digits, `-` and `_`, and go into a path.
fn credential_id(given: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=128).contains(&given.len()) && given.bytes().all(legal) {
        Ok(given.to_owned())
    } else {
        Err(format!("{given:?} is no credential's id: letters, digits, '-' and '_', as `create` told it"))
    }
}

pub async fn token(token: Token) -> anyhow::Result<()> {
    match token {
        Token::Create(args) => mint(args, "/v1/tokens", "token, for one join").await,
    }
}

pub async fn join_secret(join_secret: JoinSecret) -> anyhow::Result<()> {
    match join_secret {
        JoinSecret::Create(args) => {
            mint(args, "/v1/join-secrets", "join secret, for any number of joins").await
        }
        JoinSecret::Revoke(args) => revoke(args).await,
    }
}

async fn mint(args: MintArgs, path: &str, what: &str) -> anyhow::Result<()> {
    let api = Api::open(&args.api)?;
    let ttl_s = args.ttl.map(|ttl| ttl.get().as_secs());
    let minted: MintAnswer = api.post(path, &MintRequest { service: args.service.clone(), ttl_s }).await?;
    let mut screen = Screen::stdout();
    match args.output {
        Output::Json => screen.json(&minted)?,
        Output::Table => {
            eprintln!("A {what} of {}. It is shown this once; its id is {}.", args.service, minted.id);
            eprintln!(
                "Write it to a file that only the sidecar can read, and start it with --join-file FILE."
            );
            screen.line(&minted.credential)?;
        }
    }
    Ok(())
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let api = Api::open(&args.api)?;
    api.delete(&format!("/v1/join-secrets/{}", args.id)).await?;
    match args.output {
        Output::Json => Screen::stdout().json(&Revoked { revoked: &args.id })?,
        Output::Table => eprintln!("Revoked {}.", args.id),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
