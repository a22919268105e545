//! `WorkerFinishedReq` in both dialects.
//!
//! Arroyo 0.15 and 0.16 put different messages into field 1, with the same numbers and
//! conflicting types, so a generated type can speak only one of them. This one holds either, tells
//! them apart when it reads, and writes what it holds: the dialect is part of the value.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{self, DecodeContext, WireType},
};

use super::wire::{WorkerContext, WorkerInfo};

/// Tells the controller that a worker ended and that its slots are free.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WorkerFinishedReq {
    /// Who ended, and in which dialect that is said. Read as `None` where nobody is named.
    pub worker: Option<FinishedWorker>,
    /// When it ended, in microseconds since the Unix epoch; not sent in 0.15.
    pub time: u64,
    /// Exactly the slots of the worker's StartWorkerReq.
    pub slots: u64,
}

/// Field 1 of [`WorkerFinishedReq`].
#[derive(Clone, PartialEq, Debug)]
pub enum FinishedWorker {
    /// As Arroyo 0.15 says it.
    Info(WorkerInfo),
    /// As Arroyo 0.16 says it.
    Context(WorkerContext),
}

impl FinishedWorker {
    /// Reads field 1, in the dialect that it is written in.
    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        match (WorkerContext::decode(bytes), WorkerInfo::decode(bytes)) {
            // If both can be read, none of the numbers that they share is there: each of those has
            // another wire type in the other dialect. What is left is the pipeline, of 0.16.
            (Ok(context), _) => Ok(Self::Context(context)),
            (Err(_), Ok(info)) => Ok(Self::Info(info)),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Takes in another field 1 of the same message. In another dialect it is an error.
    fn merge(mut self, bytes: &[u8]) -> Result<Self, DecodeError> {
        match &mut self {
            Self::Info(info) => info.merge(bytes)?,
            Self::Context(context) => context.merge(bytes)?,
        }
        Ok(self)
    }

    fn says_nothing(&self) -> bool {
        match self {
            Self::Info(info) => *info == WorkerInfo::default(),
            Self::Context(context) => *context == WorkerContext::default(),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Info(info) => encoding::message::encoded_len(WORKER, info),
            Self::Context(context) => encoding::message::encoded_len(WORKER, context),
        }
    }
}

const WORKER: u32 = 1;
const TIME: u32 = 2;
const SLOTS: u32 = 3;

impl Message for WorkerFinishedReq {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match &self.worker {
            None => {}
            Some(FinishedWorker::Info(info)) => encoding::message::encode(WORKER, info, buf),
            Some(FinishedWorker::Context(context)) => {
                encoding::message::encode(WORKER, context, buf);
            }
        }
        if self.time != 0 {
            encoding::uint64::encode(TIME, &self.time, buf);
        }
        if self.slots != 0 {
            encoding::uint64::encode(SLOTS, &self.slots, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            WORKER => {
                let mut bytes = Vec::new();
                encoding::bytes::merge(wire_type, &mut bytes, buf, ctx)?;
                let worker = match self.worker.take() {
                    Some(worker) => worker.merge(&bytes)?,
                    None => FinishedWorker::parse(&bytes)?,
                };
                // What says nothing belongs to no dialect.
                self.worker = Some(worker).filter(|worker| !worker.says_nothing());
                Ok(())
            }
            TIME => encoding::uint64::merge(wire_type, &mut self.time, buf, ctx),
            SLOTS => encoding::uint64::merge(wire_type, &mut self.slots, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let number = |tag, value: &u64| match value {
            0 => 0,
            value => encoding::uint64::encoded_len(tag, value),
        };
        self.worker.as_ref().map_or(0, FinishedWorker::encoded_len)
            + number(TIME, &self.time)
            + number(SLOTS, &self.slots)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
