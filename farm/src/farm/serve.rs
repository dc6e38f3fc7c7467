//! Answering what others ask for.

use std::sync::{Arc, Weak};

use tribes_core::BoxError;
use tribes_core::rpc::{Reply, Request};

use super::stats::Counters;
use super::wire::{ABSENT, HERE, Question, write_list};
use crate::disk::Disk;
use crate::limits::Limits;

/// What is needed for it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) disk: Arc<Disk>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
}

/// So many questions are answered at the same time: each takes the memory of a chunk.
pub(super) const CONCURRENCY: usize = 8;

/// Answers a question of another member. What it says of contents is checked as if it were a manifest.
pub(super) async fn answer(serving: Weak<Serving>, request: Request) -> Result<Reply, BoxError> {
    let question: Question = request.decode()?;
    drop(request);
    let Some(serving) = serving.upgrade() else { return Ok(Reply::from(vec![ABSENT])) };
    let (Question::List(content) | Question::Chunk(content, _)) = question;
    if let Some(fault) = content.fault(&serving.limits) {
        return Err(fault.into());
    }
    let found = tokio::task::spawn_blocking(move || {
        let Serving { disk, counters, .. } = &*serving;
        match question {
            Question::List(content) => Ok(disk.list(&content)?.map(|list| write_list(&list))),
            Question::Chunk(content, index) => {
                let chunk = disk.read_chunk(&content, index, &[HERE])?;
                if let Some(chunk) = &chunk {
                    counters.count(|stats| {
                        stats.chunks_served += 1;
                        stats.bytes_served += chunk.len() as u64 - 1;
                    });
                }
                Ok::<_, std::io::Error>(chunk)
            }
        }
    });
    Ok(Reply::from(found.await??.unwrap_or_else(|| vec![ABSENT])))
}
