//! Waiting for the demo's parts, each for a bounded time.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use outrider_shared::api::StatAnswer;

use super::layout::Layout;
use crate::api::Api;
use crate::fetch::{Bounds, Fetcher, in_words};

/// For each part. On a loaded machine of two cores the slowest, the control plane's first start, takes a second or two.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two tries.
const TRY_PERIOD: Duration = Duration::from_millis(50);
const ANSWER_BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(2), body_bytes_max: 64 << 10 };

/// Until `url` answers 200. May be cancelled.
pub async fn answers(url: &str, who: &str) -> anyhow::Result<()> {
    until(who, async |fetcher: &Fetcher| match get(fetcher, url).await {
        Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
        Ok(answer) => Err(String::from_utf8_lossy(answer.body()).trim().to_owned()),
        Err(why) => Err(why),
    })
    .await
}

/// Until every app is published to the others. May be cancelled.
pub async fn published(api: &Api, layout: &Layout) -> anyhow::Result<()> {
    until("the mesh", async |_: &Fetcher| {
        let stat: StatAnswer = api.get("/v1/stat").await.map_err(|error| in_words(&error))?;
        let missing: Vec<String> = stat
            .services
            .iter()
            .map(|service| {
                (service, layout.pods.iter().filter(|pod| pod.service.name() == service.name).count())
            })
            .filter(|(service, pods)| {
                usize::try_from(service.endpoints).is_ok_and(|endpoints| endpoints < *pods)
            })
            .map(|(service, pods)| format!("{} of {pods} {}", service.endpoints, service.name))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("published are only {}", missing.join(", "))) }
    })
    .await
}

/// Until a file is there. May be cancelled.
pub async fn exists(path: &Path) -> anyhow::Result<()> {
    until(&path.display().to_string(), async |_: &Fetcher| {
        if path.exists() { Ok(()) } else { Err("it has not been written".to_owned()) }
    })
    .await
}

async fn until(who: &str, attempt: impl AsyncFn(&Fetcher) -> Result<(), String>) -> anyhow::Result<()> {
    let fetcher = Fetcher::new(ANSWER_BOUNDS);
    let end = tokio::time::Instant::now() + READY_MAX;
    loop {
        let Err(why) = attempt(&fetcher).await else { return Ok(()) };
        if tokio::time::Instant::now() >= end {
            bail!("{who} is not ready after {} s: {why}", READY_MAX.as_secs());
        }
        tokio::time::sleep(TRY_PERIOD).await;
    }
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<Response<Bytes>, String> {
    let request = Request::get(url).body(Full::default()).map_err(|error| error.to_string())?;
    fetcher.fetch(request).await.map_err(|error| in_words(&error))
}
