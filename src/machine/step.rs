//! One call of `handle`: the time it happens at, and what it brings about.

use super::{
    effect::{Effect, Effects},
    event::{Reply, StartError},
    time::Now,
};
use crate::ids::RequestId;

/// The surroundings of one event.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) out: &'a mut Effects,
}

impl Step<'_> {
    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effect(Effect::Reply { request, reply });
    }

    pub(super) fn refuse_start(&mut self, request: RequestId, error: StartError) {
        self.reply(request, Reply::Started(Err(error)));
    }
}
