//! Reloads that were asked for, by people over the network or by SIGHUP: each begins as soon as no other
//! job is under way.

use howdah_core::BootInstant;
use howdah_core::view::Job;
use tokio::sync::oneshot;

use super::Shell;
use crate::elephant::JobOutput;
use crate::reload::Reloaded;

type Answer = oneshot::Sender<Result<Reloaded, String>>;

/// A reload that was asked for.
pub(super) struct Asked {
    answer: Option<Answer>,
    at: BootInstant,
}

impl Shell {
    /// Has the configuration read again. Without an `answer` the log tells what came of it.
    pub(super) fn reload(&mut self, answer: Option<Answer>) {
        self.reloads.push_back(Asked { answer, at: self.context.clock.boot() });
    }

    /// Begins a reload that was asked for, unless something else is under way; whoever waits for an
    /// answer is told so after half a ttl.
    pub(super) fn reload_if_asked(&mut self) {
        if let Some(job) = self.local.job() {
            self.refuse_the_impatient(job);
            return;
        }
        let Some(Asked { answer, .. }) = self.reloads.pop_front() else { return };
        self.begin(Job::Reload, move |context, _| async move {
            let result = crate::reload::reload(&context).await;
            match (&result, &answer) {
                (Ok(reloaded), _) => tracing::info!("configuration read again: {reloaded}"),
                (Err(why), None) => tracing::error!("configuration not taken: {why}"),
                (Err(_), Some(_)) => {}
            }
            if let Some(answer) = answer {
                // Whoever asked may have gone away.
                let _ = answer.send(result);
            }
            Ok(JobOutput::Done)
        });
    }

    fn refuse_the_impatient(&mut self, job: Job) {
        let (now, patience) = (self.context.clock.boot(), self.context.timings.ttl / 2);
        let late = |asked: &Asked| asked.answer.is_some() && now.since(asked.at) >= patience;
        while let Some(at) = self.reloads.iter().position(late) {
            let Some(Asked { answer: Some(answer), .. }) = self.reloads.remove(at) else { return };
            let _ = answer.send(Err(format!("{job} is under way; try again when it is over")));
        }
    }
}
